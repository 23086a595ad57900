from mutants import mutant

KEYS = {
    "walk-overwrites": "walk_overwrites",
    "walk-first-share": "walk_first_share",
    "walk-shares-in-a-dict": "walk_twice",
    "walk-broadcast-not-summed": "shares_wide",
    "walk-new-axes-only": "sum_to_stretched",
    "walk-wrong-axis": "sum_to_wrong_axis",
    "walk-mean-of-uses": "sum_to_mean",
    "walk-adds-to-anothers": "walk_changes_g",
    "walk-sums-leave-no-trace": "walk_second",
    "walk-twice-counts-once": "uses_twice",
    "walk-ends-at-targets": "uses_ends",
    "walk-hook-lost": "walk_hook_lost",
    "walk-unchecked": "shares_unchecked",
    "walk-fused-as-it-is": "shares_no_trace",
    "walk-no-stand-ins": "recomposed_merged",
}

SUMMED = "return ops.reshape(ops.sum(g, $axes, keepdim=True), shape)"
WALKED = "walk(compose(*stand_ins), g, targets, create_graph=True, retain_graph=True, beyond=False)"
OPEN = """
while stack:
    vertex, inputs_done = stack.pop()
    if inputs_done:
        order.append(vertex)
    elif vertex not in inputs:
        end = not beyond and is_wanted(vertex, wanted)
        inputs[vertex] = [] if end else inputs_of(vertex)
        stack.append((vertex, True))
        stack += [(each, False) for each in inputs[vertex]]
"""
SEND = """
while ready:
    vertex = ready.pop()
    g = sums.pop(vertex)
    for hook in list(vertex.hooks):
        g = hooked(hook, g)
    if is_wanted(vertex, wanted):
        found[vertex] = g
    if isinstance(vertex, Tensor) or (vertex in found and not beyond):
        continue
    for below, share in shares(vertex, g, create_graph, waits):
        if below not in sums:
            sums[below] = share
        elif below in ours:
            sums[below].data += share.data
        else:
            sums[below] = ops.add(sums[below], share)
            if not create_graph:
                ours.add(below)
        waits[below] -= 1
        if waits[below] == 0:
            ready.append(below)
    if not retain_graph:
        vertex.free()
"""

MUTANTS = {
    "sum-to-in-place": mutant("overwrites", ("sum_to", SUMMED, "g.data = g.data.sum($axes).reshape(shape)\nreturn g")),
    "sum-to-of-arrays": mutant(
        "sum_to_no_trace", ("sum_to", SUMMED, "return Tensor(g.data.sum($axes).reshape(shape))")
    ),
    "uses-recursive": mutant(
        "uses_recursion",
        (
            "uses",
            OPEN,
            """
            def visit(vertex):
                if vertex not in inputs:
                    inputs[vertex] = [] if not beyond and is_wanted(vertex, wanted) else inputs_of(vertex)
                    for each in inputs[vertex]:
                        visit(each)
                    order.append(vertex)
            visit(root)
            """,
        ),
    ),
    "uses-once": mutant("uses_once", ("uses", "counts[each] += 1", "counts[each] = 1")),
    "uses-without-the-root": mutant(
        "uses_without_root", ("uses", "return counts", "return {each: n for each, n in counts.items() if n}")
    ),
    "uses-everything": mutant("uses_dead_ends", ("uses", "leads or is_wanted(vertex, wanted)", "True")),
    "uses-a-freed-graph": mutant(
        "uses_freed", ("uses", "inputs_of(vertex)", '(getattr(vertex, "inputs", None) or [])')
    ),
    "shares-slopes": mutant("shares_slope", ("shares", "gradient(g, *made)", "gradient(g * 0.0 + 1.0, *made)")),
    "shares-of-an-output-cut": mutant("shares_output_cut", ("shares", "output_of(node)", "Tensor(node.output[0])")),
    "shares-in-the-dtype-of-g": mutant(
        "shares_dtype", ("shares", "share if share.dtype == dtype else ops.astype(share, dtype)", "share")
    ),
    "shares-unasked": mutant(
        "shares_unasked",
        (
            "shares",
            "for below, share in $pairs:\n    if below in waits:\n        yield below, share",
            "yield from $pairs",
        ),
    ),
    "shares-merged": mutant(
        "shares_merged",
        ("shares", "inputs = inputs_of(node)", "inputs = list(dict.fromkeys(inputs_of(node)))"),
        ("shares", "zip(inputs, node.gradients, node.likes, strict=True)", "zip(inputs, node.gradients, node.likes)"),
    ),
    "shares-unseen": mutant(
        "shares_unwatched",
        ("shares", 'for watch in watchers:\n    watch(f"the gradient of {node.name}", share, [g], node)', ""),
    ),
    "recomposed-turned": mutant(
        "recomposed_turned",
        ("recomposed", "return [found[key(x)] for x in targets]", "return [found[key(x)] for x in targets[::-1]]"),
    ),
    "recomposed-constants": mutant(
        "recomposed_constants", ("recomposed", "[x for x in stand_ins if x.requires_grad]", "stand_ins")
    ),
    "recomposed-cut": mutant("recomposed_cut", ("recomposed", "ops.identity(x)", "Tensor(x.data, x.requires_grad)")),
    "recomposed-beyond": mutant(
        "recomposed_beyond",
        (
            "recomposed",
            WALKED,
            "walk(compose(*stand_ins), g, targets, create_graph=True, retain_graph=True, beyond=True)",
        ),
    ),
    "walk-recursive": mutant(
        "walk_recursion",
        (
            "walk",
            SEND,
            """
            def send(vertex):
                g = sums.pop(vertex)
                for hook in list(vertex.hooks):
                    g = hooked(hook, g)
                if is_wanted(vertex, wanted):
                    found[vertex] = g
                if isinstance(vertex, Tensor) or (vertex in found and not beyond):
                    return
                for below, share in shares(vertex, g, create_graph, waits):
                    sums[below] = share if below not in sums else ops.add(sums[below], share)
                    waits[below] -= 1
                    if waits[below] == 0:
                        send(below)
                if not retain_graph:
                    vertex.free()
            for vertex in ready:
                send(vertex)
            """,
        ),
    ),
    "walk-slopes": mutant("walk_slope", ("walk", "sums = {root: g}", "sums = {root: g * 0.0 + 1.0}")),
    "walk-never-frees": mutant("walk_not_freed", ("walk", "if not retain_graph:\n    vertex.free()", "")),
    "walk-always-recorded": mutant(
        "walk_trace", ("walk", "mode(recording=create_graph, walking=True)", "mode(recording=True, walking=True)")
    ),
    "walk-no-targets-as-all": mutant("walk_no_targets", ("walk", "targets is None", "not targets")),
    "walk-beyond-always": mutant("walk_looks_beyond", ("walk", "(vertex in found and not beyond)", "False")),
}

FURTHER = {
    "sum-to-nothing": mutant("sum_to_front", ("sum_to", SUMMED, "return g")),
    "sum-to-axes-lost": mutant("sum_to_axes_lost", ("sum_to", SUMMED, "return ops.sum(g, $axes)")),
    "sum-to-axes-kept": mutant("sum_to_axes_kept", ("sum_to", SUMMED, "return ops.sum(g, $axes, keepdim=True)")),
    "sum-to-the-first": mutant("sum_to_first", ("sum_to", SUMMED, "return ops.reshape(g[(0,) * new], shape)")),
    "sum-to-an-array": mutant("type", ("sum_to", SUMMED, "return g.data.sum($axes).reshape(shape)")),
    "sum-to-same-shape-untraced": mutant("sum_to_no_trace", ("sum_to", "return g", "return Tensor(g.data)")),
    "sum-to-new-axes-untraced": mutant(
        "sum_to_no_trace",
        ("sum_to", SUMMED, "if 1 not in shape:\n    return Tensor(g.data.sum($axes))\n" + SUMMED),
    ),
    "sum-to-stretched-axes-untraced": mutant(
        "sum_to_no_trace",
        ("sum_to", SUMMED, "if not new:\n    return Tensor(g.data.sum($axes, keepdims=True))\n" + SUMMED),
    ),
    "uses-by-path": mutant(
        "uses_paths",
        (
            "uses",
            "return counts",
            """
            paths = dict.fromkeys(counts, 0)
            for vertex in reversed(order):
                for each in inputs[vertex] if vertex in counts else ():
                    if each in counts:
                        paths[each] += max(paths[vertex], 1)
            return paths
            """,
        ),
    ),
    "uses-of-nodes": mutant(
        "uses_nodes_only",
        ("uses", "return counts", "return {each: n for each, n in counts.items() if isinstance(each, Node)}"),
    ),
    "uses-of-targets": mutant(
        "uses_targets_only",
        ("uses", "return counts", "return {each: n for each, n in counts.items() if is_wanted(each, wanted)}"),
    ),
    "uses-the-root-always": mutant(
        "uses_nothing",
        ("uses", "leads or is_wanted(vertex, wanted)", "leads or is_wanted(vertex, wanted) or vertex is root"),
    ),
    "uses-no-targets-as-all": mutant(
        "uses_no_targets", ("uses", "counts: $t = {}", "wanted = wanted or None\ncounts = {}")
    ),
    "uses-empties-wanted": mutant(
        "uses_changes_wanted", ("uses", "return counts", "if wanted:\n    wanted.clear()\nreturn counts")
    ),
    "uses-opens-again": mutant(
        "uses_opens_again",
        (
            "uses",
            OPEN,
            """
            reached = [root]
            for vertex in reached:
                inputs[vertex] = [] if not beyond and is_wanted(vertex, wanted) else inputs_of(vertex)
                reached += inputs[vertex]
            order += dict.fromkeys(reversed(reached))
            """,
        ),
    ),
    "uses-in-rounds": mutant(
        "uses_opens_again",
        (
            "uses",
            "return counts",
            """
            useful = {vertex for vertex in inputs if is_wanted(vertex, wanted)}
            while more := {v for v in inputs if v not in useful and any(each in useful for each in inputs[v])}:
                useful |= more
            return {vertex: n for vertex, n in counts.items() if vertex in useful}
            """,
        ),
    ),
    "uses-by-id": mutant("uses_key", ("uses", "return counts", "return {id(each): n for each, n in counts.items()}")),
    "uses-beyond-always": mutant("uses_beyond", ("uses", "not beyond and is_wanted(vertex, wanted)", "False")),
    "uses-looks-beyond": mutant(
        "uses_looks_beyond", ("uses", "[] if end else inputs_of(vertex)", "inputs_of(vertex)[: 0 if end else None]")
    ),
    "uses-the-inputs-of-a-freed-graph": mutant(
        "uses_freed", ("uses", "inputs_of(vertex)", '[*getattr(vertex, "inputs", ())]')
    ),
    "uses-no-name": mutant(
        "uses_freed_name",
        (
            "uses",
            "end = not beyond and is_wanted(vertex, wanted)",
            """
            end = not beyond and is_wanted(vertex, wanted)
            if not end and isinstance(vertex, Node) and vertex.inputs is None:
                raise AutogradError("the graph was freed")
            """,
        ),
    ),
    "shares-g": mutant("shares_g", ("shares", "gradient(g, *made)", "g")),
    "shares-without-the-output": mutant(
        "shares_output", ("shares", "made = () if node.output is None else (output_of(node),)", "made = ()")
    ),
    "shares-cast-by-numpy": mutant(
        "shares_no_trace", ("shares", "ops.astype(share, dtype)", "Tensor(share.data.astype(dtype))")
    ),
    "shares-of-fused-ops-unchecked": mutant(
        "shares_unchecked", ("shares", "node.check()", "if not node.composed:\n    node.check()")
    ),
    "shares-seen-by-name": mutant("shares_watched", ("shares", 'f"the gradient of {node.name}"', "node.name")),
    "recomposed-slopes": mutant(
        "recomposed_without_g",
        ("recomposed", "walk(compose(*stand_ins), g, $...a)", "walk(compose(*stand_ins), g * 0.0 + 1.0, $...a)"),
    ),
    "recomposed-without-a-trace": mutant(
        "recomposed_no_trace",
        (
            "recomposed",
            WALKED,
            "walk(compose(*stand_ins), g, targets, create_graph=False, retain_graph=True, beyond=False)",
        ),
    ),
    "recomposed-freed": mutant(
        "recomposed_freed",
        (
            "recomposed",
            WALKED,
            "walk(compose(*stand_ins), g, targets, create_graph=True, retain_graph=False, beyond=False)",
        ),
    ),
    "recomposed-in-the-nodes-own-list": mutant(
        "recomposed_changes_given",
        (
            "recomposed",
            "targets = [x for x in stand_ins if x.requires_grad]",
            "given[:] = stand_ins\ntargets = [x for x in stand_ins if x.requires_grad]",
        ),
    ),
    "walk-adds-to-the-third": mutant(
        "walk_overwrites", ("walk", "sums[below].data += share.data", "sums[below] = share")
    ),
    "walk-without-hooks": mutant(
        "walk_no_hook", ("walk", "for hook in list(vertex.hooks):\n    g = hooked(hook, g)", "")
    ),
    "walk-hooks-of-nodes": mutant(
        "walk_hook_leaf", ("walk", "list(vertex.hooks)", "list(vertex.hooks if isinstance(vertex, Node) else ())")
    ),
    "walk-hooks-skipped": mutant("walk_hook_skipped", ("walk", "list(vertex.hooks)", "vertex.hooks")),
    "walk-hooks-turned": mutant("walk_hook_turned", ("walk", "list(vertex.hooks)", "vertex.hooks[::-1]")),
    "walk-hooks-not-of-the-root": mutant(
        "walk_hook_somewhere", ("walk", "list(vertex.hooks)", "list(vertex.hooks if vertex is not root else ())")
    ),
    "walk-hooks-not-recorded": mutant(
        "walk_hook_somewhere", ("walk", "list(vertex.hooks)", "list(() if create_graph else vertex.hooks)")
    ),
    "walk-hooks-of-leaves-turned": mutant(
        "walk_hook_somewhere",
        ("walk", "list(vertex.hooks)", "vertex.hooks[::-1] if isinstance(vertex, Tensor) else list(vertex.hooks)"),
    ),
    "walk-hooks-of-leaves-skipped": mutant(
        "walk_hook_somewhere",
        ("walk", "list(vertex.hooks)", "vertex.hooks if isinstance(vertex, Tensor) else list(vertex.hooks)"),
    ),
    "walk-targets-before-hooks": mutant(
        "walk_hook_target",
        (
            "walk",
            """
            for hook in list(vertex.hooks):
                g = hooked(hook, g)
            if is_wanted(vertex, wanted):
                found[vertex] = g
            """,
            """
            if is_wanted(vertex, wanted):
                found[vertex] = g
            for hook in list(vertex.hooks):
                g = hooked(hook, g)
            """,
        ),
    ),
    "walk-hooks-unchecked": mutant(
        "walk_hook_shape",
        ("walk", "g = hooked(hook, g)", "changed = hook(g)\ng = g if changed is None else changed"),
    ),
    "walk-always-frees": mutant("walk_freed", ("walk", "if not retain_graph:\n    vertex.free()", "vertex.free()")),
    "walk-frees-for-leaves-only": mutant(
        "walk_not_freed",
        (
            "walk",
            "if not retain_graph:\n    vertex.free()",
            "if not retain_graph and targets is None:\n    vertex.free()",
        ),
    ),
    "walk-watched": mutant(
        "walk_watched",
        ("walk", "mode(recording=create_graph, walking=True)", "mode(recording=create_graph, walking=False)"),
    ),
    "walk-finds-everything": mutant("walk_extra", ("walk", "is_wanted(vertex, wanted)", "True")),
    "walk-by-tensor": mutant(
        "walk_by_tensor",
        (
            "walk",
            "return found",
            "return found if targets is None else {x: found[key(x)] for x in targets if key(x) in found}",
        ),
    ),
    "walk-zeros": mutant(
        "walk_unreached",
        (
            "walk",
            "return found",
            "return found if targets is None else {key(x): found.get(key(x), Tensor(0.0)) for x in targets}",
        ),
    ),
    "walk-not-returned": mutant("none", ("walk", "return found", "")),
    "walk-counts-beyond": mutant(
        "walk_beyond",
        ("walk", "uses(root, wanted, beyond)", "uses(root, wanted, True)"),
        ("walk", "(vertex in found and not beyond)", "False"),
    ),
    "walk-ends-at-targets": mutant("walk_ends", ("walk", "(vertex in found and not beyond)", "vertex in found")),
    "walk-only-leaves": mutant(
        "walk_missing",
        ("walk", "is_wanted(vertex, wanted)", "is_wanted(vertex, wanted) and isinstance(vertex, Tensor)"),
    ),
}

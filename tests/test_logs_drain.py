"""Drain. The oracles are drain3, group by group, the templates of loghub-2k, and what must hold of any stream."""

import csv
import gzip
import io
import json
import random
import re
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kakehashi.work.logs import Config, Drain, Group, LogError, Mask, Masks
from kakehashi.work.logs import masks as masks_module
from kakehashi.work.logs.masks import WILDCARD

# Grouping accuracy of Drain as published: Zhu et al., "Tools and Benchmarks for Automated Log Parsing" (ICSE 2019)
PUBLISHED = {"HDFS": 0.997, "BGL": 0.963, "OpenStack": 0.733}
word = st.sampled_from(["a", "b", "c", "d", "7", "x9", WILDCARD])
messages = st.one_of(st.just(()), *(st.tuples(*n * [word]) for n in (1, 2, 3, 3, 4, 4)))  # lengths that meet often
streams = st.lists(messages.map(" ".join), min_size=10, max_size=40)
configs = st.builds(
    Config,
    depth=st.integers(3, 6),
    similarity=st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]),
    max_children=st.integers(2, 4),
    max_groups=st.none(),
)
few_groups = st.builds(Config, depth=st.integers(3, 5), max_children=st.integers(2, 4), max_groups=st.integers(1, 4))


def unmasked(config: Config) -> Drain:
    return Drain(config, Masks([]))


def peer(config: Config):
    drain = pytest.importorskip("drain3.drain", reason="needs drain3 (extra parity)")
    return drain.Drain(config.depth, config.similarity, config.max_children, config.max_groups)


@pytest.fixture(scope="module", params=PUBLISHED)
def loghub(request, data_dir) -> tuple[str, list[str], list[str]]:
    """(name, messages, the event of each as people labelled it)."""
    path = data_dir / "loghub-2k" / f"{request.param}_2k.log_structured.csv.gz"
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode("utf-8"))))
    return request.param, [row["Content"] for row in rows], [row["EventId"] for row in rows]


def accuracy(found: list[int], events: list[str]) -> float:
    """The share of messages whose group is exactly the messages of their event."""
    groups, truth = defaultdict(set), defaultdict(set)
    for i, (group, event) in enumerate(zip(found, events, strict=True)):
        groups[group].add(i)
        truth[event].add(i)
    return sum(groups[g] == truth[e] for g, e in zip(found, events, strict=True)) / len(events)


@pytest.mark.parametrize(
    "config", [Config(), Config(depth=5, similarity=0.4, max_children=10)], ids=["shipped", "other"]
)
def test_groups_and_templates_are_those_of_drain3_with_the_same_masks(loghub, config):
    theirs = peer(config)
    masking = pytest.importorskip("drain3.masking", reason="needs drain3 (extra parity)")
    rules = [masking.MaskingInstruction(mask.regex, "*") for mask in masks_module.shipped()]
    masker = masking.LogMasker(rules, "<", ">")
    ours = Drain(config)
    expected = [theirs.add_log_message(masker.mask(message))[0].cluster_id for message in loghub[1]]
    assert [ours.learn(message).id for message in loghub[1]] == expected
    assert {g.id: g.template for g in ours.groups.values()} == {c.cluster_id: c.get_template() for c in theirs.clusters}
    assert {g.id: g.count for g in ours.groups.values()} == {c.cluster_id: c.size for c in theirs.clusters}


def test_grouping_accuracy_is_at_least_the_published_one(loghub):
    name, messages, events = loghub
    drain = Drain()
    assert accuracy([drain.learn(message).id for message in messages], events) >= PUBLISHED[name]


@settings(max_examples=60)
@given(streams, configs)
def test_groups_are_those_of_drain3_on_any_stream_where_a_word_of_text_stays(stream, config):
    ours, theirs = unmasked(config), peer(config)
    for message in stream:
        message += " end"
        group, (cluster, _) = ours.learn(message), theirs.add_log_message(message)
        assert (group.id, group.count, group.template) == (cluster.cluster_id, cluster.size, cluster.get_template())


@settings(max_examples=30)
@given(streams, configs)
def test_what_was_learnt_is_never_called_unseen_and_matching_learns_nothing(stream, config):
    drain = unmasked(config)
    for message in stream:
        drain.learn(message)
    before = drain.to_dict()
    for message in stream:
        found = drain.match(message)
        assert found.covers(tuple(message.split()))
        # no other template that covers it says more
        covering = [g for g in drain.groups.values() if len(g.words) == len(found.words) and g.covers(message.split())]
        assert drain.match(message) is found
        assert all(found.n_wild <= g.n_wild for g in covering if g.path == found.path)
    assert drain.match("a b c never seen before") is None
    assert drain.to_dict() == before


@settings(max_examples=60)
@given(streams, configs)
def test_no_template_comes_to_be_in_which_nothing_is_left_of_text(stream, config):
    drain = unmasked(config)
    for message in stream:
        words = message.split()
        group = drain.learn(message)
        assert group.covers(tuple(words))
        assert any(word.isalnum() and any(map(str.isalpha, word)) for word in group.template.split()) or not any(
            mine == WILDCARD and any(map(str.isalpha, word))
            for mine, word in zip(group.template.split(), words, strict=True)
        )


@pytest.mark.parametrize(
    "known", ["[12] ジョブを開始しました", "[12] 取引34を開始しました", "12 34", "[job_12] 取引34を開始しました"]
)
@pytest.mark.parametrize("other", ["致命的なエラーが発生しました", "取引34で致命的なエラー"])
def test_a_sentence_without_blanks_is_never_covered_by_another(known, other):
    drain, message = Drain(), f"{known.split()[0]} {other}"
    drain.learn(known)
    assert drain.match(message) is None
    assert drain.learn(message).count == 1 and drain.learn(message).count == 2
    assert drain.learn(known).template == " ".join(drain.masks.words(known))


def test_of_groups_equally_near_the_one_with_more_values_wins_as_in_drain3():
    config = Config(similarity=0.4, max_groups=None)
    ours, theirs = unmasked(config), peer(config)
    stream = ["p q r s t", "p a b c d", "p a b x y", "p a r k l"]
    found = [ours.learn(message).id for message in stream]
    assert found == [theirs.add_log_message(message)[0].cluster_id for message in stream] == [1, 2, 2, 2]


@pytest.mark.parametrize("max_children", [2, 3, 4])
def test_a_full_node_keeps_one_branch_for_values_as_in_drain3(max_children):
    config = Config(max_children=max_children, max_groups=None)
    ours, theirs = unmasked(config), peer(config)
    for message in ["a p", "b p", "c p", "d p", "e p"]:
        assert ours.learn(message).id == theirs.add_log_message(message)[0].cluster_id


def test_of_groups_alike_in_all_the_first_made_wins_after_reading_too():
    drain = unmasked(Config(similarity=0.4))
    for message in ["p a b c d", "p e f g h", "p a b c d"]:
        drain.learn(message)
    assert Drain.from_dict(drain.to_dict()).learn("p a f x y").id == 1


@settings(max_examples=60)
@given(streams, st.one_of(configs, few_groups))
def test_the_few_groups_that_are_compared_are_those_that_count(stream, config):
    drain = unmasked(config)
    for message in stream:
        words = tuple(message.split())
        leaf = drain._leaf(words)
        here = list(leaf.groups.values()) if leaf else []
        near = [g for g in here if not words or g.common(words) / len(words) >= config.similarity]
        near = [g for g in near if g.takes(words)]
        nearest = max(near, key=lambda g: (g.common(words), g.n_wild, -g.id), default=None)
        assert drain._nearest(words) is nearest
        same_length = [g for g in drain.groups.values() if len(g.words) == len(words)]
        covering = [g for g in same_length if g.covers(words)]
        wanted = min(covering, key=lambda g: (g not in here, g.n_wild, g.id), default=None)
        assert drain.match(message) is wanted
        drain.learn(message)


def test_among_thousands_of_templates_few_are_compared(monkeypatch):
    rng, n_compared = random.Random(0), 0
    common = Group.common

    def counted(group, words):
        nonlocal n_compared
        n_compared += 1
        return common(group, words)

    monkeypatch.setattr(Group, "common", counted)
    drain = unmasked(Config(max_groups=1000))
    lines = ["ERROR " + " ".join(f"{rng.randrange(5000)}w" for _ in range(7)) for _ in range(3000)]
    for line in lines:
        drain.learn(line)
        drain.match(line + "?")
    assert len(drain.groups) == 1000 and n_compared < 20 * len(lines)


def test_a_message_with_another_word_is_unseen():
    drain = Drain()
    drain.learn("disk 3 is full")
    assert drain.match("disk 17 is full") is not None
    assert drain.match("disk 17 is empty") is None
    drain.learn("disk 17 is empty")
    assert drain.match("disk 17 is empty") is not None


@settings(max_examples=30)
@given(streams, few_groups)
def test_memory_is_bounded_and_numbers_are_never_used_again(stream, config):
    drain = unmasked(config)
    newest = 0
    for message in stream:
        group = drain.learn(message)
        assert group.count > 1 or group.id == newest + 1
        newest = max(newest, group.id)
        assert next(reversed(drain.groups)) == group.id
        assert len(drain.groups) <= config.max_groups
        nodes, held = [drain.root], []
        for node in nodes:
            nodes += node.children.values()
            held += node.groups.values()
            assert node is drain.root or node.groups or node.children  # no branch leads to nothing
        assert sorted(g.id for g in held) == sorted(drain.groups)
        assert len(nodes) <= 1 + config.max_groups * (config.depth - 2)


def test_the_group_unused_for_longest_is_dropped_and_is_new_when_it_comes_again():
    drain = unmasked(Config(max_groups=2))
    for message in ["one", "two of them", "one", "three of them all"]:
        drain.learn(message)
    assert {g.template for g in drain.groups.values()} == {"one", "three of them all"}
    assert drain.match("two of them") is None
    assert drain.learn("two of them").count == 1


@settings(max_examples=30)
@given(streams, st.integers(0, 40), st.one_of(configs, few_groups))
def test_what_is_saved_and_read_goes_on_as_if_nothing_had_been(stream, at, config):
    drain = unmasked(config)
    for message in stream[:at]:
        drain.learn(message)
    again = Drain.from_dict(json.loads(json.dumps(drain.to_dict())))
    for message in stream[at:]:
        assert again.learn(message).id == drain.learn(message).id
    assert again.to_dict() == drain.to_dict()


def test_parameters_put_into_the_template_give_the_message(loghub):
    drain = Drain()
    groups = [drain.learn(message) for message in loghub[1]]
    n_values = 0
    for group, message in zip(groups, loghub[1], strict=True):
        values = drain.parameters(group, message)
        n_values += len(values)
        assert group.template.count(WILDCARD) == len(values)
        parts = [
            part
            for pair in zip(group.template.split(WILDCARD), [v for _, v in values] + [""], strict=True)
            for part in pair
        ]
        assert "".join(parts) == " ".join(message.split())
    assert n_values > 2000


def test_parameters_carry_the_name_of_their_mask_or_are_words():
    drain = Drain()
    for word in ["started", "stopped"]:
        group = drain.learn(f"worker {word} on 10.0.0.1:80 after 3.5 s, see /var/log/a.log")
    found = drain.parameters(group, "worker paused on 10.0.0.2:81 after 4 s, see /tmp/b")
    assert found == [("word", "paused"), ("ip", "10.0.0.2:81"), ("number", "4"), ("path", "/tmp/b")]


@pytest.mark.parametrize(
    "word, masked",
    [
        ("10.251.73.220:50010", "<*>"),
        ("/10.251.73.220:50010", "<*>"),
        ("blk_-6952295868487656571", "blk_<*>"),
        ("[instance:b9000564-fe1a-409b-b8cc-1e88b294cd1d]", "[instance:<*>]"),
        ("https://example.com/a?b=1", "<*>"),
        ("00:1B:44:11:3a:b7", "<*>"),
        ("/var/log/app.log,", "<*>,"),
        ("0xdeadBEEF", "<*>"),
        ("54fadb412c4e40cd", "<*>"),
        ("facade", "facade"),
        ("size=-3.5,", "size=<*>,"),
        ("10:15:30", "<*>:<*>:<*>"),
        ("v2alpha1", "v2alpha1"),
        ("GET", "GET"),
        ("3件", "<*>件"),
        ("１２", "<*>"),
        ("[JOB200025]", "[JOB<*>]"),
        ("A-000123", "A-<*>"),
        ("取引TX12345を", "取引TX<*>を"),
        ("utf8", "utf8"),
        ("sha256", "sha256"),
        ("ipv4", "ipv4"),
        ("x86", "x86"),
        ("経過=119ms", "経過=<*>ms"),
        ("3.2秒", "<*>秒"),
        ("-1,234,567.5円", "<*>円"),
        ("1234,567", "<*>,<*>"),
        ("12.5KB/s", "<*>KB/s"),
        ("85%", "<*>%"),
        ("k8s", "k8s"),
        ("2nd", "2nd"),
    ],
)
def test_shipped_masks_take_values_and_leave_words(word, masked):
    assert Masks.load().words(word) == (masked,)


def test_masks_remembered_equal_masks_worked_out(loghub, monkeypatch):
    monkeypatch.setattr(masks_module, "CACHED_WORDS", 3)  # forgotten all the time
    pattern = re.compile("|".join(f"(?:{mask.regex})" for mask in masks_module.shipped()))
    masks = Masks.load()
    for message in loghub[1][:300]:
        assert list(masks.words(message)) == [pattern.sub(WILDCARD, word) for word in message.split()]
        assert len(masks._masked) <= 3


@pytest.mark.parametrize("top, masked", [("", "<*>"), ("replace = false\n", "<*>"), ("replace = true\n", "3")])
def test_masks_of_a_file_come_before_those_shipped_or_replace_them(tmp_path, top, masked):
    file = tmp_path / "masks.toml"
    file.write_text(f"{top}[[mask]]\nname = 'order'\nregex = 'A(?P<x>.)(?P=x)'\n", encoding="utf-8")
    drain = Drain(masks=Masks.load(file))
    group = drain.learn("order A77 of 3")
    assert group.template == f"order <*> of {masked}"
    assert drain.parameters(group, "order A88 of 3")[0] == ("order", "A88")
    assert Drain.from_dict(drain.to_dict()).match("order A99 of 3").id == group.id


@pytest.mark.parametrize(
    "text, said",
    [
        ("[[mask]]\nname = 'a'\nregex = '('", "'a'"),
        ("[[mask]]\nname = 'a'\nregex = '(.)\\1'", r"\1"),
        ("[[mask]]\nname = ''\nregex = 'a'", "name"),
        ("[[mask]]\nname = 'a'", "regex"),
        ("mask = 3", "[[mask]]"),
        ("[[mask]]\nname = 'a'\nregex = 'x*'", "everywhere"),
        ("[[mask", "TOML"),
        ("replace = 1\n[[mask]]\nname = 'a'\nregex = 'a'", "replace = true"),
        ("", "[[mask]]"),
    ],
)
def test_a_mistake_in_a_file_of_masks_is_one_line(tmp_path, text, said):
    file = tmp_path / "masks.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(LogError) as mistake:
        Masks.load(file)
    assert said in str(mistake.value) and "\n" not in str(mistake.value)


def test_a_file_of_masks_that_is_not_there_is_said(tmp_path):
    with pytest.raises(LogError, match="cannot read"):
        Masks.load(tmp_path / "none.toml")


def test_a_mask_that_would_take_for_ever_is_stopped(monkeypatch):
    monkeypatch.setattr(masks_module, "SECONDS", 0.05)
    drain = Drain(masks=Masks([Mask("bad", "(a|a)+$")]))
    with pytest.raises(LogError, match="bad"):
        drain.learn("a" * 60 + "b")


@pytest.mark.parametrize(
    "setting", [{"depth": 2}, {"similarity": 1.5}, {"similarity": -0.1}, {"max_children": 1}, {"max_groups": 0}]
)
def test_a_setting_of_no_use_is_named_with_its_value(setting):
    (name, value), *_ = setting.items()
    with pytest.raises(LogError, match=f"{name} .*{value}"):
        Config(**setting)


def test_templates_of_a_later_format_are_refused():
    with pytest.raises(LogError, match="2"):
        Drain.from_dict(Drain().to_dict() | {"format": 2})

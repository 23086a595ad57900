"""The names of what can be wrong: category -> root causes.

The first twelve are those of DEFault++ (2026), so that results can be compared; the others are ours, for what lies
outside a Transformer's layers.
"""

TAXONOMY: dict[str, tuple[str, ...]] = {
    "masking": ("mask_application", "mask_generation", "dynamic_mask"),
    "qkv": ("parameter_initialization", "head_interaction", "dynamic_parameter_registration", "dimension"),
    "score": ("normalization", "implementation", "precision_handling"),
    "positional": ("indexing", "relative_position", "interpolation"),
    "kernel": (
        "silent_fallback",
        "feature_constraints",
        "hardware_incompatibility",
        "numerical_precision",
        "kernel_memory",
    ),
    "variant": ("variant_configuration", "dynamic_dispatch"),
    "kv_cache": (
        "cache_invalidation",
        "update_synchronization",
        "cache_position",
        "memory_layout",
        "distributed_synchronization",
    ),
    "embedding": ("input_initialization", "input_type", "input_dimension"),
    "ffn": ("weight_scaling", "neuron_dropout", "activation_function", "regularization", "weight_initialization"),
    "layernorm": ("scale_parameter", "bias_parameter", "stability_parameter", "regularization"),
    "residual": ("skip_connection", "residual_scaling", "residual_path", "gradient_clipping", "dropout_rate"),
    "output": ("output_scaling", "output_dimension", "output_type", "weight_tying"),
    "batchnorm": ("statistics", "running_average", "stability_parameter"),
    "convolution": ("dilation", "tap_order", "alignment", "gate", "activation_function"),
    "recurrent": (
        "gate_order",
        "gate_use",
        "activation_function",
        "recurrent_product",
        "forget_bias",
        "state_reset",
        "state_padding",
        "state_handover",
        "history",
    ),
    "data": ("counting", "smoothing"),
    "labels": ("direction", "shift"),
    "loss": ("padding_counted", "denominator", "empty_batch"),
    "mode": ("dropout_in_eval", "batch_statistics_in_eval", "running_statistics_in_training"),
}

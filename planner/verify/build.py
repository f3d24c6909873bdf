"""The real model on the meta device, with its adapters, then given fake storages."""

from __future__ import annotations

import warnings
from typing import Any, cast

import torch
from torch import nn

from planner.verify.library import library
from planner.verify.modules import block_list
from planner.verify.quantised import adapt_as_bitsandbytes, quantise
from planner.verify.settings import TraceSettings
from planner.verify.target import FLASH_NAME

# Where a config has several they agree, but for LongCat-Flash: `num_layers` counts its modules, each of two attentions.
DEPTH_NAMES = ("num_layers", "num_hidden_layers", "n_layer", "n_layers")


def build_model(config: dict[str, Any], settings: TraceSettings) -> nn.Module:
    """Builds the causal language model (and PEFT's adapters) on the meta device: shapes and dtypes, no bytes.

    Raises what transformers raises when it can't build the config.
    """
    library_config = library_config_of(config, settings)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: nn.Module = auto_class(library_config, settings).from_config(
            library_config,
            dtype=getattr(torch, settings.weights_dtype),
            attn_implementation=attention_name(library_config, settings),
            **experts_choice(settings),
        )
        if settings.attention == "flash_attention":
            use_flash_attention(model)
        model = choose_trainable(model, settings)
    model.train()
    return model


def library_config_of(config: dict[str, Any], settings: TraceSettings) -> Any:
    """The library's configuration object of a config.json, as the Trainer trains with it."""
    transformers = library("transformers")
    values = dict(config)
    model_type = values.pop("model_type")
    library_config = transformers.AutoConfig.for_model(model_type, **values)
    cut_depth(library_config, settings.layers_override)
    # The Trainer sets use_cache to False before it trains (transformers/trainer.py, `_inner_training_loop`'s set-up):
    # with it the keys and values of every layer would live in a DynamicCache.
    library_config.use_cache = False
    library_config.num_labels = settings.num_labels
    if library_config.is_encoder_decoder and not hasattr(library_config, "decoder_start_token_id"):
        library_config.decoder_start_token_id = 0  # T5's older files leave it to the tokenizer
    text_config = library_config.get_text_config()
    text_config.use_cache = False
    return library_config


def experts_choice(settings: TraceSettings) -> dict[str, str]:
    """Left open, transformers takes grouped_mm where the class can.

    Source: modeling_utils.py, `get_correct_experts_implementation`.
    """
    chosen = settings.experts_implementation
    return {} if chosen is None else {"experts_implementation": chosen}


def attention_name(library_config: Any, settings: TraceSettings) -> str | dict[str, str]:
    """The key in transformers' attention table with which the model, or its text part, is built.

    Towers, which stand idle, are left to what the library picks for them: Gemma's audio towers have no SDPA.

    A class without SDPA (Gemma 2's soft-capping) gets eager, which is what transformers picks when nothing is asked for
    (modeling_utils.py, `_check_and_adjust_attn_implementation`).
    """
    if settings.attention == "eager" or not model_class(library_config, settings)._supports_sdpa:
        return "eager"
    return {"": "sdpa", "text_config": "sdpa"} if "text_config" in library_config.sub_configs else "sdpa"


def use_flash_attention(model: nn.Module) -> None:
    """Sends attention to our own entry of the table: at building, transformers would look for the package itself.

    Raises ValueError for a class that doesn't look there.
    """
    attends = any("Attention" in type(module).__name__ for module in model.modules())
    if attends and not getattr(model, "_supports_attention_backend", False):
        name = type(model).__name__
        raise ValueError(f"{name} has no attention interface: it chooses its kernel when it is built, or has one alone")
    for module in model.modules():
        config: Any = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation"):
            config._attn_implementation = FLASH_NAME


def auto_class(library_config: Any, settings: TraceSettings) -> Any:
    """AutoModelForCausalLM, or for a config of pictures and text the class that takes both (text rows are traced).

    For some of those AutoModelForCausalLM builds the text model alone, which is not what the checkpoint holds.

    A config of an encoder and a decoder gets the class of its task.

    With the objective of classification, AutoModelForSequenceClassification.
    """
    transformers = library("transformers")
    if settings.objective == "sequence_classification":
        return transformers.AutoModelForSequenceClassification
    if library_config.is_encoder_decoder:
        sound = type(library_config) in transformers.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING
        return transformers.AutoModelForSpeechSeq2Seq if sound else transformers.AutoModelForSeq2SeqLM
    if type(library_config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return transformers.AutoModelForImageTextToText
    return transformers.AutoModelForCausalLM


def model_class(library_config: Any, settings: TraceSettings) -> Any:
    """The class that the auto class builds for the config."""
    return auto_class(library_config, settings)._model_mapping[type(library_config)]


def cut_depth(library_config: Any, layers: int | None) -> None:
    """Keeps the first `layers` blocks, and of every per-layer list its head."""
    if layers is None:
        return
    text_config = library_config.get_text_config()
    name = next(name for name in DEPTH_NAMES if hasattr(text_config, name))
    depth = getattr(text_config, name)
    values = cast("dict[str, Any]", vars(text_config))
    for key, value in list(values.items()):
        if isinstance(value, list) and len(cast("list[Any]", value)) == depth:
            setattr(text_config, key, value[:layers])
    setattr(text_config, name, layers)


def choose_trainable(model: nn.Module, settings: TraceSettings) -> nn.Module:
    """Marks what is trained; adapters are added here, still on the meta device (PEFT can't do it in a fake mode)."""
    if settings.method == "qlora":
        quantise(model, settings)
    if settings.method in ("lora", "qlora", "dora"):
        return add_adapters(model, settings)
    if settings.method == "freeze":
        train_last_layers(model, settings.trainable_layers)
    return model


def add_adapters(model: nn.Module, settings: TraceSettings) -> nn.Module:
    """PEFT's LoRA or DoRA; float32 adapters over a 16-bit base are its default (`autocast_adapter_dtype`)."""
    peft = library("peft")
    targets = settings.target_modules
    lora = peft.LoraConfig(
        r=settings.lora_rank,
        lora_dropout=settings.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        use_dora=settings.method == "dora",
        task_type=peft_task(model, settings),
    )
    adapted: nn.Module = peft.get_peft_model(model, lora, autocast_adapter_dtype=False)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(getattr(torch, settings.adapter_dtype))
    adapt_as_bitsandbytes(adapted)
    return adapted


def peft_task(model: nn.Module, settings: TraceSettings) -> str | None:
    """Which wrapper of PEFT hands the batch on; none of them has a place for a spectrogram, so Whisper has no task."""
    if settings.objective == "sequence_classification":
        return "SEQ_CLS"
    config: Any = model.config
    if not config.is_encoder_decoder:
        return "CAUSAL_LM"
    return None if hasattr(config, "max_source_positions") else "SEQ_2_SEQ_LM"


def train_last_layers(model: nn.Module, layers: int) -> None:
    """Freezes everything, then trains the last `layers` blocks (embedding, head and final norm stay frozen)."""
    model.requires_grad_(False)
    for block in list(block_list(model))[-layers:]:
        block.requires_grad_(True)


def give_fake_storages(model: nn.Module) -> None:
    """Replaces each meta parameter and buffer by an empty one; call it inside a fake mode. Tied ones share one."""
    replaced: dict[int, Any] = {}
    for module in model.modules():
        for table in (module._parameters, module._buffers):  # pyright: ignore[reportPrivateUsage]
            for name, tensor in table.items():
                if tensor is not None:
                    table[name] = replaced.setdefault(id(tensor), fake_like(tensor))


def fake_like(tensor: torch.Tensor) -> torch.Tensor:
    """An empty tensor of the same shape, dtype and role."""
    empty = torch.empty(tensor.shape, dtype=tensor.dtype)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty

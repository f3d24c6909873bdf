"""Small configs of real families, for traces of some tenths of a second."""

from typing import Any

VOCABULARY = 512
HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
WIDTHS: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 176, "vocab_size": VOCABULARY}
TOKENS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

LLAMA: dict[str, Any] = {"model_type": "llama", **WIDTHS, **HEADS, **TOKENS}
QWEN3: dict[str, Any] = {"model_type": "qwen3", "head_dim": 32, **WIDTHS, **HEADS, **TOKENS}
GEMMA2: dict[str, Any] = {"model_type": "gemma2", "head_dim": 16, "sliding_window": 16, **WIDTHS, **HEADS, **TOKENS}
GPT2: dict[str, Any] = {
    "model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, "vocab_size": VOCABULARY,
    "resid_pdrop": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "loss_type": "ForCausalLM", **TOKENS,
}  # fmt: skip
MIXTRAL: dict[str, Any] = {
    "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2, **WIDTHS, **HEADS, **TOKENS,
}  # fmt: skip
QWEN3_MOE: dict[str, Any] = {
    "model_type": "qwen3_moe", "moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2, "head_dim": 16,
    **WIDTHS, **HEADS, **TOKENS,
}  # fmt: skip
OLMOE: dict[str, Any] = {"model_type": "olmoe", "num_experts": 4, "num_experts_per_tok": 2, **WIDTHS, **HEADS, **TOKENS}
GPT_OSS: dict[str, Any] = {
    "model_type": "gpt_oss", "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16, "sliding_window": 16,
    **WIDTHS, **HEADS, **TOKENS,
}  # fmt: skip
LATENT: dict[str, Any] = {
    "q_lora_rank": 32, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
    "num_attention_heads": 4, "num_key_value_heads": 4,
}  # fmt: skip
DEEPSEEK_V3: dict[str, Any] = {
    "model_type": "deepseek_v3", "num_hidden_layers": 2, "first_k_dense_replace": 1, "moe_intermediate_size": 32,
    "n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1, "n_shared_experts": 1,
    **LATENT, **WIDTHS, **TOKENS,
}  # fmt: skip
LONGCAT: dict[str, Any] = {
    "model_type": "longcat_flash", "num_layers": 2, "hidden_size": 64, "vocab_size": VOCABULARY, "ffn_hidden_size": 128,
    "expert_ffn_hidden_size": 32, "n_routed_experts": 4, "zero_expert_num": 2, "moe_topk": 2, "head_dim": 8,
    **LATENT, **TOKENS,
}  # fmt: skip

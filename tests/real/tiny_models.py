"""Writes the smallest models real servers will load: `python tiny_models.py FOLDER`. Runs where `gguf` is installed.

`tiny.gguf`: a llama of 2 layers and 64 dimensions with random weights and 288 byte-level tokens.
`tiny-hf/`: the same shape as a Hugging Face folder with safetensors and a byte-level tokenizer.
`tiny-bert/`: an embedding model of that size, in the same form.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import numpy as np

DIM, LAYERS, HEADS, HIDDEN, CONTEXT = 64, 2, 4, 128, 2048
SPECIAL = ["<unk>", "<s>", "</s>"]
TOKENS = SPECIAL + [f"<0x{b:02X}>" for b in range(256)] + [f"t{i}" for i in range(29)]
RANDOM = np.random.default_rng(0)


def _weights(rows: int, columns: int) -> np.ndarray:
    return RANDOM.normal(0, 0.02, (rows, columns)).astype(np.float32)


def write_gguf(path: Path) -> None:
    """A llama that llama.cpp's server loads in under a second."""
    import gguf

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(DIM)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(DIM // HEADS)
    writer.add_file_type(0)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([t.encode() for t in TOKENS])
    writer.add_token_scores([0.0] * len(TOKENS))
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * 29)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_tensor("token_embd.weight", _weights(len(TOKENS), DIM))
    for layer in range(LAYERS):
        for name, rows, columns in (
            ("attn_q", DIM, DIM),
            ("attn_k", DIM, DIM),
            ("attn_v", DIM, DIM),
            ("attn_output", DIM, DIM),
            ("ffn_gate", HIDDEN, DIM),
            ("ffn_up", HIDDEN, DIM),
            ("ffn_down", DIM, HIDDEN),
        ):
            writer.add_tensor(f"blk.{layer}.{name}.weight", _weights(rows, columns))
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(DIM, np.float32))
    writer.add_tensor("output_norm.weight", np.ones(DIM, np.float32))
    writer.add_tensor("output.weight", _weights(len(TOKENS), DIM))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """The safetensors layout: length of the header, JSON header with offsets, raw bytes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, value in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(v.tobytes() for v in tensors.values()))


def _write_texts(folder: Path, config: dict[str, object]) -> None:
    """The configuration, and the byte-level tokenizer that the models share."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": t, "special": True} | _PLAIN for i, t in enumerate(SPECIAL)],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "unk_token": "<unk>", "vocab": {t: i for i, t in enumerate(TOKENS)}, "merges": []},
    }
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    settings |= {"unk_token": "<unk>", "pad_token": "</s>"}
    for name, value in (("config", config), ("tokenizer", tokenizer), ("tokenizer_config", settings)):
        (folder / f"{name}.json").write_text(json.dumps(value))


def write_bert(folder: Path) -> None:
    """An encoder that embedding servers load: 2 layers, untrained."""
    config: dict[str, object] = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": DIM,
        "intermediate_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "vocab_size": len(TOKENS),
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "pad_token_id": 2,
    }
    _write_texts(folder, config)
    tensors = {
        "embeddings.word_embeddings.weight": _weights(len(TOKENS), DIM),
        "embeddings.position_embeddings.weight": _weights(512, DIM),
        "embeddings.token_type_embeddings.weight": _weights(2, DIM),
    }
    shapes = {f"attention.self.{name}": (DIM, DIM) for name in ("query", "key", "value")}
    shapes |= {"attention.output.dense": (DIM, DIM), "intermediate.dense": (HIDDEN, DIM), "output.dense": (DIM, HIDDEN)}
    for layer in range(LAYERS):
        for name, (rows, columns) in shapes.items():
            tensors[f"encoder.layer.{layer}.{name}.weight"] = _weights(rows, columns)
            tensors[f"encoder.layer.{layer}.{name}.bias"] = np.zeros(rows, np.float32)
    norms = [f"encoder.layer.{n}.{part}.LayerNorm" for n in range(LAYERS) for part in ("attention.output", "output")]
    for name in ("embeddings.LayerNorm", *norms):
        tensors |= {f"{name}.weight": np.ones(DIM, np.float32), f"{name}.bias": np.zeros(DIM, np.float32)}
    tensors |= {"pooler.dense.weight": _weights(DIM, DIM), "pooler.dense.bias": np.zeros(DIM, np.float32)}
    _safetensors(folder / "model.safetensors", tensors)


def write_hf(folder: Path) -> None:
    """The same shape as transformers-style files."""
    config: dict[str, object] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": DIM,
        "intermediate_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "vocab_size": len(TOKENS),
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    _write_texts(folder, config)
    tensors = {"model.embed_tokens.weight": _weights(len(TOKENS), DIM)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            tensors[f"{prefix}self_attn.{name}.weight"] = _weights(DIM, DIM)
        tensors[f"{prefix}mlp.gate_proj.weight"] = _weights(HIDDEN, DIM)
        tensors[f"{prefix}mlp.up_proj.weight"] = _weights(HIDDEN, DIM)
        tensors[f"{prefix}mlp.down_proj.weight"] = _weights(DIM, HIDDEN)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}{name}.weight"] = np.ones(DIM, np.float32)
    tensors["model.norm.weight"] = np.ones(DIM, np.float32)
    tensors["lm_head.weight"] = _weights(len(TOKENS), DIM)
    _safetensors(folder / "model.safetensors", tensors)


_PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}

if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    write_gguf(target / "tiny.gguf")
    write_hf(target / "tiny-hf")
    write_bert(target / "tiny-bert")

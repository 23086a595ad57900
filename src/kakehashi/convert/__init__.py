"""Hugging Face folders, both ways: GPT-2, and Llama with Mistral and Qwen2.

    model = load_hf("Qwen2-0.5B")          # a folder on this disk: nothing is fetched
    save_hf(model, "mine", tokenizer)      # transformers opens it: AutoModelForCausalLM.from_pretrained("mine")

A folder holds config.json and safetensors, in one file or in shards that model.safetensors.index.json lists; pickled
weights are not opened, as they can run code. What its config.json asks for and our model file does not compute is
refused by name, and so is a weight that is missing, left over or of another shape: a model that is read computes what
transformers computes. Saved weights stand in the same layout, config.json in words that transformers 4 and 5 know. A
tokenizer is read and written beside them, with what begins and ends a text; a chat template is not.
"""

from kakehashi.convert.files import ConvertError
from kakehashi.convert.folder import TOKENIZER, is_hf, load_hf, load_tokenizer, save_hf

__all__ = ["TOKENIZER", "ConvertError", "is_hf", "load_hf", "load_tokenizer", "save_hf"]

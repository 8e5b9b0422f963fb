"""Run by two processes: a model in parts (FSDP) is asked, saved and put back as a whole one is. Says what it found.

accelerate leaves FSDP out on a CPU, so that here the model is taken apart by PyTorch's own function.
"""

import json
import sys
from pathlib import Path

from toolkit import processes
from toolkit.example import Example
from toolkit.models import open_engine
from toolkit.recipe import Lora, Model
from toolkit.rendering import render


def main(base: Path, kind: str, out: Path) -> None:
    processes.start()
    engine = open_engine("transformers")
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from toolkit.models.loaded import load_weights, save_weights
    from toolkit.models.scoring import generate, score
    from toolkit.models.shards import is_sharded

    asked = Model(base=str(base), precision="fp32", engine="transformers")
    loaded = engine.load_base(base, asked, full=kind == "full")
    if kind == "lora":
        engine.add_lora(loaded, Lora(rank=4, alpha=8), asked, 3)
        torch.manual_seed(1)
        for name, weight in loaded.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight)
    examples = [Example(str(i), str(i), f"第{i}个号码是：", "12345", "train") for i in range(5)]
    items = [render(loaded.tokenizer, example, "plain") for example in examples]

    def answers() -> dict[str, object]:
        with torch.no_grad():
            bits = [scored.bits for scored in score(loaded, items, 2)]
            said = [said.ids for said in generate(loaded, engine, [item.prompt_ids for item in items], 8, 2)]
        return {"bits": bits, "said": said}

    found: dict[str, object] = {"whole": answers(), "was_sharded": is_sharded(loaded.model)}
    mesh = init_device_mesh("cpu", (processes.count(),))
    core = loaded.model.get_base_model() if kind == "lora" else loaded.model
    for layer in core.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(loaded.model, mesh=mesh)
    found |= {"is_sharded": is_sharded(loaded.model), "parts": answers()}
    save_weights(loaded, out / kind)
    processes.wait()
    with torch.no_grad():
        for weight in loaded.model.parameters():
            if weight.requires_grad:
                weight.mul_(0.5)
    found["spoilt"] = answers()
    load_weights(loaded, out / kind)
    found["put_back"] = answers()
    (out / f"{kind}-{processes.number()}.json").write_text(json.dumps(found), encoding="utf-8")
    processes.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))

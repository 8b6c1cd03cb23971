"""Where weights lie: on one device, over several, or sliced over several processes."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping

import torch

from netphys._check import check_option, check_type
from netphys._version import explain_missing
from netphys.recording.ranks import get_local_rank

_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


def choose_device(device: str) -> str:
    """Return a device that is there; "cuda" is the card of this process.

    Parameters
    ----------
    device : str
        Such as "cpu", "cuda" or "cuda:1".

    Returns
    -------
    device : str
        With the number of the card where torchrun has started several processes.

    Raises
    ------
    ValueError
        If it is unknown or not there, or there are more processes than cards.
    """
    check_type("device", device, str, "a device such as 'cpu' or 'cuda'")
    kind = device.partition(":")[0]
    check_option("device", kind, ("cpu", "cuda", "mps"))
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there[kind]:
        raise ValueError(f"device={device!r} is not available on this machine. Use 'cpu'.")
    if device != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    number, n_cards = get_local_rank(), torch.cuda.device_count()
    if number >= n_cards:
        raise ValueError(
            f"device='cuda': this is process {number + 1} of this machine, which has {n_cards} "
            "cards. Start as many processes as there are cards, or name one: device='cuda:0'."
        )
    return f"cuda:{number}"


def choose_spread(
    name: object,
    init: str,
    device: str,
    device_map: str | Mapping | None,
    tp_plan: str | Mapping | None,
) -> dict:
    """Return what ``from_pretrained`` is told of a model that one device does not hold.

    Parameters
    ----------
    name : str, path-like or Module
        The subject.
    init, device : str
        Options of `load_subject`, which must be left as they are.
    device_map : str or dict, optional
        Places of the modules.
    tp_plan : str or dict, optional
        How weights are divided among processes.

    Returns
    -------
    options : dict
        Empty for a model on one device.

    Raises
    ------
    ValueError
        If the options exclude each other, or torchrun has not started several processes.
    ImportError
        If accelerate is missing.
    """
    if device_map is None and tp_plan is None:
        return {}
    key, value = ("device_map", device_map) if tp_plan is None else ("tp_plan", tp_plan)
    check_type(key, value, (str, Mapping), "'auto' or a dict of module paths")
    if device_map is not None and tp_plan is not None:
        raise ValueError("device_map= and tp_plan= exclude each other. Give one of them.")
    if isinstance(value, str):
        check_option(key, value, _MAPS if key == "device_map" else ("auto",))
    if isinstance(name, torch.nn.Module) or init != "trained" or device != "cpu":
        raise ValueError(
            f"{key}={value!r} is for trained models that are loaded by name, onto the devices that "
            "it says. Leave out init= and device=, and give an id or a folder."
        )
    if key == "device_map":
        if importlib.util.find_spec("accelerate") is None:
            missing = ModuleNotFoundError("No module named 'accelerate'", name="accelerate")
            raise ImportError(explain_missing(missing), name="accelerate")
        return {"device_map": value if isinstance(value, str) else dict(value)}
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        raise ValueError(
            f"tp_plan={value!r} divides a model among processes, and there is one. Start several: "
            "torchrun --nproc-per-node N."
        )
    from transformers.distributed import DistributedConfig

    plan = value if isinstance(value, str) else dict(value)
    return {"distributed_config": DistributedConfig(tp_plan=plan)}


def describe_spread(model: torch.nn.Module, options: Mapping) -> dict:
    """Return what the provenance says of a model that one device does not hold.

    Parameters
    ----------
    model : Module
        As it was loaded.
    options : dict
        From `choose_spread`.

    Returns
    -------
    facts : dict
        JSON-ready.
    """
    if "device_map" in options:
        places = getattr(model, "hf_device_map", None) or {}  # none where one device holds all
        return {"device_map": {k: str(v) for k, v in places.items()}}
    if "distributed_config" in options:
        return {"tp_size": int(os.environ["WORLD_SIZE"])}
    return {}


def read_weight(model: torch.nn.Module, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return the values of a weight, wherever they are.

    Parameters
    ----------
    model : Module
        The model.
    name : str
        Name of the weight.
    tensor : Tensor
        What stands for it in the model: values, a slice of them, or none where the values wait on
        the CPU or on disk.

    Returns
    -------
    values : Tensor
        All of it; of a slice every process must ask at the same time.

    Raises
    ------
    ValueError
        If the values are nowhere.
    """
    if hasattr(tensor, "full_tensor"):
        return tensor.full_tensor()
    if not tensor.is_meta:
        return tensor
    module, _, leaf = name.rpartition(".")
    hook = getattr(model.get_submodule(module), "_hf_hook", None)
    for part in getattr(hook, "hooks", (hook,)):
        values = getattr(part, "weights_map", None)
        if values is not None:
            return values[leaf]
    raise ValueError(f"the weight {name!r} is on the meta device, without values.")

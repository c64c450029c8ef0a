"""`python -m engines`: build, list and clean compiled engines; export networks to ONNX."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from engines.cache import EngineCache
from engines.errors import EngineError
from engines.registry import AUTO_ORDER, load, survey

log = logging.getLogger("engines")

Backend = Literal["auto", "all", "tensorrt", "openvino", "onnxruntime", "torch"]


def build(
    models: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL.onnx")] = (),
    backend: Annotated[Backend, tyro.conf.arg(help="all: every one that runs here.")] = "auto",
    device: Annotated[str, tyro.conf.arg(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    precision: Annotated[Literal["fp32", "fp16", "bf16", "auto"], tyro.conf.arg(help="Of the arithmetic.")] = "fp32",
    cache: Annotated[Path | None, tyro.conf.arg(help="Folder of compiled engines.", metavar="FOLDER")] = None,
) -> int:
    """Compile models, check them against the reference and keep them. Without MODEL: those of the puppet package."""
    failures = 0
    for path in models or _packaged_models():
        for name, place in _wanted(backend, device):
            try:
                load(path, backend=name, device=place, precision=precision, cache=EngineCache(cache)).close()
            except EngineError as exc:
                failures += 1
                log.error("engine %s for %s: %s", name, path.name, exc)
    return 1 if failures else 0


def list_engines(
    cache: Annotated[Path | None, tyro.conf.arg(help="Folder of compiled engines.", metavar="FOLDER")] = None,
) -> int:
    """Show which engines run here, and what is kept: how long ago it was made and last used."""
    from engines.listing import print_backends, print_entries

    print_backends(survey())
    print_entries(EngineCache(cache))
    return 0


def clean(
    cache: Annotated[Path | None, tyro.conf.arg(help="Folder of compiled engines.", metavar="FOLDER")] = None,
) -> int:
    """Remove all kept engines; they are built again when needed.

    What was not used for 30 days goes by itself, when the next engine is kept.
    """
    folder = EngineCache(cache)
    print(f"{folder.clean()} engines removed from {folder.folder}")
    return 0


def export(
    factory: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODULE:FUNCTION")],
    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT.onnx")],
) -> int:
    """Write a torch network as ONNX and compare both.

    MODULE:FUNCTION gives (network, {input name: example tensor}, [output names], {metadata}).
    """
    from engines.export import describe, export_onnx

    module_name, _, function = factory.partition(":")
    try:
        made = getattr(importlib.import_module(module_name), function)
    except (ImportError, AttributeError, ValueError) as exc:
        raise EngineError(f"{factory!r} can't be imported ({exc}): expected MODULE:FUNCTION.") from exc
    network, inputs, outputs, metadata = made()
    worst = export_onnx(network, inputs, outputs, path, metadata=metadata)
    print(f"{describe(path)}\n  largest difference to torch: {worst:.1e} of the output's range")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit code."""
    engine_log, lines = logging.getLogger("engines"), logging.StreamHandler(sys.stdout)
    level = engine_log.level
    engine_log.addHandler(lines)
    engine_log.setLevel(logging.INFO)
    commands = {"build": build, "list": list_engines, "clean": clean, "export": export}
    try:
        return tyro.extras.subcommand_cli_from_dict(
            commands, prog="python -m engines", description=__doc__, args=arguments
        )
    except EngineError as exc:
        print(f"engines: {exc}", file=sys.stderr)
        return 1
    finally:
        engine_log.removeHandler(lines)
        engine_log.setLevel(level)


def _packaged_models() -> list[Path]:
    """The models that come with the puppet package, found without importing it."""
    spec = importlib.util.find_spec("puppet")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    models = [path for folder in folders for path in sorted(Path(folder, "models").glob("*.onnx"))]
    if not models:
        raise EngineError("no model was given and none comes with the package: expected a path to an .onnx file.")
    return models


def _wanted(backend: str, device: str) -> list[tuple[str, str]]:
    if backend != "all":
        return [(backend, device)]
    return [(a.backend, a.device) for a in survey() if a.reason is None and device in ("auto", a.device)] or [
        (name, place) for name, place in AUTO_ORDER if place == device
    ]


if __name__ == "__main__":
    sys.exit(main())

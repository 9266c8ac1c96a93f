"""The methods by name: this project's own, and those that other packages bring.

A *rule* is a pure function of one image's activations and gradients. A *probe* runs the model, or the part of it
behind the layer, again and again; what it gets is a `Probing`.

A package brings methods by an entry point in the group ``cfcam.methods``: a module that registers while it is imported,
or a function that does when it is called. They are loaded once, when a name is asked for that is not one of our own,
or when all names are listed: who uses our own methods neither waits for other packages nor depends on them.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ..checks import check_choice, did_you_mean, expect
from ..errors import CfcamError, MethodError, one_line
from ..shown import shown_value
from .base import CamResult

__all__ = ["GROUP", "Method", "get_method", "make_settings", "method_names", "register_probe", "register_rule"]

#: The entry-point group of packages that bring methods.
GROUP = "cfcam.methods"

Kind = Literal["rule", "probe"]
Run = Callable[..., CamResult]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Method:
    """A registered method.

    name: what people ask for. kind: ``rule`` or ``probe``. run: for a rule (activations (C, H, W), gradients (C, H, W),
    settings) -> `CamResult`, for a probe (`Probing`, settings) -> `CamResult`. settings: a frozen dataclass type, or
    None for no settings. needs_tail: a probe that runs the file of the tail. takes_detail: a rule that also takes
    ``detail`` and ``rivals``, keywords of `cfcam`'s kind, where the file has them. fusion: a rule of several layers
    that has its own way of making one map of theirs, a key of `layer_fusion.FUSIONS` or of `OWN_FUSIONS`. most_cells:
    of a layer's grid. takes_grouping: a rule whose clusters no class changes, and that takes them as the keyword
    ``grouping``. contrast: the setting that sets a class against others, which at 0 leaves the class alone.
    """

    name: str
    kind: Kind
    run: Run
    settings: type[Any] | None = None
    summary: str = field(default="", compare=False)
    needs_tail: bool = False
    takes_detail: bool = False
    fusion: str | None = None
    most_cells: int | None = None
    contrast: str | None = None
    takes_grouping: bool = False


_METHODS: dict[str, Method] = {}
#: Entry points that could not be loaded, and why.
_FAILED: list[str] = []
_lock = threading.RLock()
_loaded = False


def register_rule(
    name: str,
    *,
    settings: type[Any] | None = None,
    takes_detail: bool = False,
    fusion: str | None = None,
    most_cells: int | None = None,
    contrast: str | None = None,
    takes_grouping: bool = False,
) -> Callable[[Run], Run]:
    """Decorator that makes a function a rule.

    >>> @register_rule("mean")                                          # doctest: +SKIP
    ... def mean(activations, gradients, settings=None):
    ...     '''Mean activation, whatever the class.'''
    ...     return CamResult(np.maximum(activations.mean(axis=0, dtype=np.float32), 0))

    Args:
        name: What people ask for.
        settings: Frozen dataclass of what can be set, or None.
        takes_detail: The function also takes the keywords ``detail``, activations (D, H', W') of a finer layer, and
            ``rivals``, the gradient of the logsumexp of the other classes' logits, which broadcasts to (C, H, W);
            None where the file has none.
        fusion: The rule is one of several layers, and this makes one map of theirs, whatever the file says:
            ``refine``, or one of ``--layers-fusion``. It is refused for files with one layer.
        most_cells: A layer whose grid has more is refused; None for any.
        contrast: The name of the setting that sets a class against others, or None. What is measured between the maps
            of two classes is measured where it is 0.
        takes_grouping: The function clusters by the activations alone, gives the clusters out as
            `CamResult.grouping`, and takes them as the keyword ``grouping`` (or None) for another class of the
            same image.

    Returns:
        A decorator for ``(activations, gradients, settings) -> CamResult``: finite float16, float32 or float64 arrays
        (C, H, W) of one image, which must not be written to. The docstring's first line becomes the summary.

    Raises:
        MethodError: The name is taken.
    """
    return _register(
        name,
        "rule",
        settings,
        takes_detail=takes_detail,
        fusion=fusion,
        most_cells=most_cells,
        contrast=contrast,
        takes_grouping=takes_grouping,
    )


def register_probe(
    name: str, *, settings: type[Any] | None = None, needs_tail: bool = False, contrast: str | None = None
) -> Callable[[Run], Run]:
    """Decorator that makes a function a probe: it gets a `Probing`, with which it may run the model.

    Args:
        name: What people ask for.
        settings: Frozen dataclass of what can be set, or None.
        needs_tail: Whether it runs the tail, which must then lie beside the model.
        contrast: As in `register_rule`.

    Returns:
        A decorator for ``(probing, settings) -> CamResult``. The docstring's first line becomes the summary.

    Raises:
        MethodError: The name is taken.
    """
    return _register(name, "probe", settings, needs_tail=needs_tail, contrast=contrast)


def _register(name: str, kind: Kind, settings: type[Any] | None, **needs: Any) -> Callable[[Run], Run]:
    expect("register", "name", name, str, error=MethodError)
    if settings is not None and not (isinstance(settings, type) and dataclasses.is_dataclass(settings)):
        raise MethodError(f"register '{name}': settings: expected a dataclass or None, got {shown_value(settings)}")

    def decorate(run: Run) -> Run:
        expect(f"register '{name}'", "run", run, Callable, error=MethodError)
        if name in _METHODS:
            first, second = _METHODS[name].run.__module__, run.__module__
            raise MethodError(f"method '{name}' is registered twice, by {first} and by {second}: rename one of them")
        summary = (run.__doc__ or "").strip().partition("\n")[0]
        _METHODS[name] = Method(name, kind, run, settings, summary, **needs)
        return run

    return decorate


def method_names(kind: Kind | None = None) -> list[str]:
    """The names of all methods, those of other packages included.

    Args:
        kind: ``rule`` or ``probe``; None for both, rules before probes.

    Returns:
        The names, in the order of their registration.

    Raises:
        MethodError: There is no such kind.
    """
    if kind is not None:
        check_choice("method_names", "kind", kind, get_args(Kind))
    _load_packages()
    kinds = get_args(Kind) if kind is None else (kind,)
    return [name for one in kinds for name, method in _METHODS.items() if method.kind == one]


def get_method(name: str) -> Method:
    """The method that is called `name`.

    Raises:
        MethodError: There is none; the message has the nearest name, and the packages that could not be loaded.
    """
    expect("method", "name", name, str, error=MethodError)
    if name not in _METHODS:
        _load_packages()
    if name in _METHODS:
        return _METHODS[name]
    hint = did_you_mean(name, _METHODS)
    failed = "".join(f". {one}" for one in _FAILED)
    raise MethodError(f"unknown method '{name}'{hint} Available: {', '.join(method_names())}{failed}")


def _load_packages() -> None:
    """Let other packages register their methods, once; one that cannot is noted, and keeps none from doing so."""
    global _loaded
    with _lock:
        if _loaded:
            return
        _loaded = True  # also for an entry point that asks for a method while it is loaded
        from importlib.metadata import entry_points

        for entry in entry_points(group=GROUP):
            try:
                found = entry.load()
                if callable(found):
                    found()
            except Exception as error:  # whatever somebody else's code raises
                package = "an unknown package" if entry.dist is None else f"the package '{entry.dist.name}'"
                _FAILED.append(
                    f"The methods '{entry.name}' of {package} could not be loaded ({one_line(error)}): repair or "
                    "remove that package"
                )
                _log.warning("%s", _FAILED[-1])


def make_settings(method: Method, values: Any) -> Any:
    """A method's settings object.

    Args:
        method: The method.
        values: None for the defaults, a mapping, or the settings object itself.

    Returns:
        An instance of `method.settings`; None for a method without settings.

    Raises:
        MethodError: An unknown setting, or a value out of range.
    """
    if method.settings is None:
        if values is None or (isinstance(values, Mapping) and not values):
            return None
        raise MethodError(f"method '{method.name}' takes no settings, got {shown_value(values)}")
    if isinstance(values, method.settings):
        return values
    if values is None:
        return method.settings()
    if not isinstance(values, Mapping):
        raise MethodError(f"settings of '{method.name}': expected a mapping, got {type(values).__name__}")
    known = [f.name for f in dataclasses.fields(method.settings)]
    for key in values:
        if key not in known:
            hint = did_you_mean(str(key), known)
            raise MethodError(f"method '{method.name}' has no setting '{key}'{hint} Settings: {', '.join(known)}")
    try:
        return method.settings(**values)
    except CfcamError:
        raise
    except (TypeError, ValueError) as error:
        raise MethodError(f"settings of '{method.name}': {error}") from error

"""Custom encoders, named by the import path of their class."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from types import ModuleType
from typing import Any

from torch import nn

from quickstudy.encoders.encoder import Encoder
from quickstudy.errors import InputError
from quickstudy.messages import did_you_mean, reason
from quickstudy.saving.foreign_files import is_named_like_a_model
from quickstudy.saving.trust import IMPORT_PATH


def is_import_path(name: str) -> bool:
    """Whether a name is the import path of a class, such as ``my_module.Net``."""
    return IMPORT_PATH.fullmatch(name) is not None


def own_class(name: str) -> type[nn.Module]:
    """The class of modules at an import path; importing runs the code of its module.

    The command line takes any such class where it takes an :class:`Encoder`.

    Raises:
        ValueError: if there is no such class, or the name belongs to something else. For a
            function that creates a module, the message shows how to put it into a class.
    """
    module_name, _, short = name.rpartition(".")
    if is_named_like_a_model(name) and not importlib.util.find_spec(name.partition(".")[0]):
        raise InputError(f"There is no file {name!r}, and no module either.")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the module's own code can fail in any way
        raise InputError(
            f"The encoder {name!r} cannot be imported: {reason(error)} A class MyClass in the file "
            "my_module.py of the current folder is named my_module.MyClass."
        ) from error
    found: Any = getattr(module, short, None)
    if found is None:
        hint = did_you_mean(short, _classes(module), lambda each: f"{module_name}.{each}")
        raise InputError(f"The module {module_name!r} has no class {short!r}.{hint}")
    if isinstance(found, type) and issubclass(found, nn.Module):
        if inspect.isabstract(found):
            raise InputError(
                f"The encoder {name!r} is abstract; name a class that can be instantiated."
            )
        if not issubclass(found, Encoder):
            Encoder.register(found)
        return found
    if isinstance(found, nn.Module):
        raise InputError(
            f"The encoder {name!r} is a module that is made already, and a file could not say how; "
            f"name its class, {type(found).__module__}.{type(found).__name__}."
        )
    if callable(found) and not isinstance(found, type):
        raise InputError(_wrap_it(name, module_name, short))
    raise InputError(
        f"The encoder {name!r} is a {type(found).__name__}; name the class of a torch module."
    )


def _classes(module: ModuleType) -> list[str]:
    return [
        name
        for name, each in vars(module).items()
        if isinstance(each, type) and issubclass(each, nn.Module)
    ]


def _wrap_it(name: str, module_name: str, short: str) -> str:
    return f"""The encoder {name!r} is a function. What it makes could not be made again from a \
saved file, so put it into a class, in a file such as my_encoder.py:

    from torch import nn
    from {module_name} import {short}

    class Net(nn.Module):
        out_features = ...  # the length of its vectors

        def __init__(self):
            super().__init__()
            self.net = {short}(...)  # without its last layer, as in self.net.fc = nn.Identity()

        def forward(self, x):
            return self.net(x)

and name that: --encoder my_encoder.Net."""

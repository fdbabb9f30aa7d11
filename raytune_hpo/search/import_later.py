"""A module that is imported when somebody asks for anything in it.

importlib.util.LazyLoader is meant for this, but before Python 3.12 an `import` statement is enough to set it off.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from types import ModuleType
from typing import Any

_lock = threading.RLock()


class _Later(ModuleType):
    _begun = False

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there: all but what a module has before its code runs."""
        with _lock:
            if not self._begun:
                self._begun = True
                assert self.__spec__ is not None
                assert self.__spec__.loader is not None
                self.__spec__.loader.exec_module(self)
        return super().__getattribute__(name)


def import_later(name: str) -> None:
    """Let `import name` cost nothing until the module is used. Does nothing where it is imported, or not installed."""
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    module = _Later(name)
    module.__spec__, module.__loader__, module.__file__ = spec, spec.loader, spec.origin
    module.__package__ = spec.parent
    if spec.submodule_search_locations is not None:
        module.__path__ = spec.submodule_search_locations
    sys.modules[name] = module

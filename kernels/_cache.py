"""Where compiled kernels are kept between processes.

A kernel lies in a file of its own, named by its types and by what else its machine code depends on, in a folder named
by the digest of all sources that can become part of it and of the versions of what compiled them:

    HOME/bragg_numba/DIGEST/MODULE.FUNCTION-KEY.nbc

Nothing that is found there can be out of date, and no two states of the sources ever write the same file: neither
checkouts that share a folder, nor processes that run side by side, nor one that is killed at the wrong moment. HOME is
what NUMBA_CACHE_DIR names; else ``__pycache__`` beside this file, or else numba's folder in the user's caches; and a
folder of the user's own among the temporary files where none of these can be written.

What keeps a kernel from being kept or fetched never keeps it from being used.
"""

import hashlib
import os
import pickle
import shutil
import stat
import sys
import tempfile
import warnings
from contextlib import suppress
from functools import cache

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from bragg_numba.kernels._vectors import WANTED_BITS
from numba import config
from numba.core.compiler import CompileResult
from numba.core.runtime import rtsys
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

#: Folders of states of the sources that are kept in one home: the last used.
KEPT = 8

#: Settings of numba's that change machine code and are no part of its description of the processor.
_SETTINGS = (
    "BOUNDSCHECK",
    "DEBUGINFO_DEFAULT",
    "DEBUG_ARRAY_OPT_RUNTIME",
    "DEBUG_JIT",
    "DEBUG_NRT",
    "EXTEND_VARIABLE_LIFETIMES",
    "LLVM_REFPRUNE_FLAGS",
    "LLVM_REFPRUNE_PASS",
    "LOOP_VECTORIZE",
    "OPT",
    "SLP_VECTORIZE",
    "USING_SVML",
)

_KERNELS = os.path.dirname(os.path.abspath(__file__))
_CHECKSUM = hashlib.sha256().digest_size
_ENDING = ".nbc"


class CacheWarning(UserWarning):
    """Compiled kernels could not be kept where they should be."""


# --- what machine code depends on ---------------------------------------------------------------


def _digest_of(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _sources():
    """Digest of each source, by its path; without those that are compiled for GPUs, which are kept nowhere.

    By their contents: neither time nor size of a file tells whether it has changed.
    """
    found = {}
    for folder, _, names in os.walk(_KERNELS):
        for name in names:
            # An editor's lock begins with a dot and may be a link to nowhere.
            if name.endswith(".py") and not name.startswith((".", "cuda", "_jit_cuda")):
                path = os.path.join(folder, name)
                found[path] = _digest_of(path)
    return found


def _digest(sources):
    """Name of a state of the sources, compiled by what is installed."""
    compilers = (numba.__version__, llvmlite.__version__, llvmlite.binding.llvm_version_info, np.__version__)
    python = (sys.implementation.cache_tag, getattr(sys, "abiflags", ""))
    states = sorted((os.path.relpath(path, _KERNELS), digest) for path, digest in sources.items())
    return hashlib.sha256(repr((compilers, python, states)).encode()).hexdigest()[:32]


# Before any kernel is read: what changes later is not what this process runs.
_SOURCES = _sources()
_DIGEST = _digest(_SOURCES)


@cache
def _is_as_read(path):
    """Whether a module that is being imported is still as it was when this process began."""
    return path in _SOURCES and _digest_of(path) == _SOURCES[path]


# --- where kernels are kept -----------------------------------------------------------------------


@cache
def _homes(named):
    """Folders in which kernels are looked for and kept, the best first; ``named`` is NUMBA_CACHE_DIR."""
    found = [named] if named else [os.path.join(_KERNELS, "__pycache__")]
    of_user = AppDirs(appname="numba", appauthor=False).user_cache_dir
    # A user without a home has "~" for one, and would get a folder of that name wherever a program runs.
    if not named and os.path.isabs(of_user):
        found.append(of_user)
    return [*(os.path.join(os.path.abspath(path), "bragg_numba") for path in found), *_temporary_homes()]


@cache
def _temporary_homes():
    try:
        return [os.path.join(tempfile.gettempdir(), f"bragg_numba-{_user()}")]
    except OSError:  # not even temporary files can be written
        return []


def _user():
    return os.getuid() if hasattr(os, "getuid") else "kernels"  # where users have no numbers they have folders


def _is_temporary(home):
    return home in _temporary_homes()


def _belongs_to_user(home):
    """Whether nobody else can put files there: they would be run."""
    try:
        state = os.lstat(home)
    except OSError:
        return False
    if not hasattr(os, "getuid"):
        return stat.S_ISDIR(state.st_mode)
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and not state.st_mode & 0o022


class _Shelf:
    """The homes of this process: files are fetched from any of them and kept in the first that takes them."""

    def __init__(self):
        self.refusals = {}  # home -> why it took no file
        self.told = False
        self.used = set()

    def fetch(self, name):
        """Yield (path, content) of the files of this name that are whole; throw away those that are not."""
        for home in _homes(config.CACHE_DIR):
            folder = os.path.join(home, _DIGEST)
            path = os.path.join(folder, name)
            try:
                if _is_temporary(home) and not _belongs_to_user(home):
                    continue
                with open(path, "rb") as file:
                    checksum, content = file.read(_CHECKSUM), file.read()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:  # a folder in its place, or a disk that fails
                throw_away(path)
                continue
            if hashlib.sha256(content).digest() != checksum:
                throw_away(path)
                continue
            if folder not in self.used:
                self.used.add(folder)
                with suppress(OSError):  # not ours, or read-only: whoever can write there looks after it
                    os.utime(folder)
            yield path, content

    def keep(self, name, content):
        """Write a file, whole or not at all; say so once where it cannot be kept for good."""
        content = hashlib.sha256(content).digest() + content
        for home in _homes(config.CACHE_DIR):
            if home in self.refusals:
                continue
            try:
                _write(home, name, content)
            except OSError as error:
                self.refusals[home] = error.strerror or str(error)
                continue
            if _is_temporary(home):
                self._tell(f"they are kept in {home}, as long as the system leaves it there")
            return
        self._tell("the next process will have to compile them again")

    def _tell(self, instead):
        if self.told:
            return
        self.told = True
        where = " or ".join(f"{home} ({why})" for home, why in self.refusals.items() if not _is_temporary(home))
        text = f"compiled kernels cannot be kept in {where}: {instead} (NUMBA_CACHE_DIR names another folder)"
        warnings.warn(text, CacheWarning, stacklevel=2)


_SHELF = _Shelf()


def throw_away(path):
    """Remove a file that is no kernel, or a folder in its place, if the system lets us."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        os.unlink(path)


def _write(home, name, content):
    if _is_temporary(home):
        os.makedirs(home, mode=0o700, exist_ok=True)
        if not _belongs_to_user(home):
            raise PermissionError(None, "belongs to someone else")
    folder = os.path.join(home, _DIGEST)
    if not os.path.isdir(folder):
        os.makedirs(folder, exist_ok=True)
        _remove_old(home)
    path = os.path.join(folder, name)
    part = f"{path}.{os.getpid()}-{os.urandom(4).hex()}.part"
    try:
        with open(part, "xb") as file:
            file.write(content)
        if os.path.isdir(path):
            throw_away(path)
        os.replace(part, path)
    except BaseException:
        throw_away(part)
        raise


def _remove_old(home):
    """Remove the folders of all but the last used states of the sources."""
    folders = [os.path.join(home, name) for name in os.listdir(home) if len(name) == len(_DIGEST)]
    ages = {}
    for folder in folders:
        with suppress(OSError):  # another process was quicker
            ages[folder] = os.stat(folder).st_mtime
    for folder in sorted(ages, key=ages.get)[:-KEPT]:
        shutil.rmtree(folder, ignore_errors=True)


# --- what numba asks ------------------------------------------------------------------------------


def _are_plain(values):
    """Whether values say all about themselves: numbers, texts, None and tuples of them."""
    return all(
        _are_plain(value) if isinstance(value, tuple) else value is None or isinstance(value, (int, float, str))
        for value in values
    )


class KernelCache:
    """The compiled kernels of one function, as numba fetches and keeps them.

    Numba's own cache stamps a kernel with the file that it stands in, not with those that become part of it; lets
    kernels of two states of the sources, or of two processes, write the same file; stops where its folder cannot be
    written or holds a file that was cut short; and gets all that it can compile (and SciPy, where installed) ready
    before it looks, half of the time from a program's start to its first pixel.
    """

    def __init__(self, function, variant=""):
        path = os.path.abspath(sys.modules[function.__module__].__file__)
        name = function.__qualname__.replace("<locals>.", "")
        name = f"{name}.{variant}" if variant else name  # the same source, compiled with other flags
        self._name = f"{os.path.relpath(path, _KERNELS)[:-3].replace(os.sep, '.')}.{name}"
        # A function that was made for some constants is compiled over them.
        self._constants = tuple(cell.cell_contents for cell in function.__closure__ or ())
        self._enabled = _is_as_read(path) and _are_plain(self._constants)

    @property
    def cache_path(self):
        """Where kernels are kept if the system lets us."""
        return os.path.join(_homes(config.CACHE_DIR)[0], _DIGEST)

    def load_overload(self, sig, target_context):
        """Return the compiled kernel of a signature, or None."""
        # All that running a compiled kernel needs; whoever has to compile one gets the rest ready.
        rtsys.initialize(target_context)
        if not self._enabled:
            return None
        key = self._key(sig, target_context.codegen())
        for path, content in _SHELF.fetch(self._file(key)):
            try:
                found, data = pickle.loads(content)
                if found == key:
                    return CompileResult._rebuild(target_context, *data)
            except Exception:  # whole, and yet not what this numba can read
                throw_away(path)
        return None

    def save_overload(self, sig, result):
        """Keep the compiled kernel of a signature."""
        # What was imported after the sources had changed may be part of it.
        if not self._enabled or _sources() != _SOURCES:
            return
        if result.library.has_dynamic_globals or not all(one.can_cache for one in result.lifted):
            text = f"the kernel {self._name} has to be compiled by every process: it holds addresses or lifted loops"
            warnings.warn(text, CacheWarning, stacklevel=2)
            return
        key = self._key(sig, result.library.codegen)
        _SHELF.keep(self._file(key), dumps((key, result._reduce())))

    def flush(self):
        """Throw all kernels of this function away: numba is to compile them again."""
        for home in _homes(config.CACHE_DIR):
            folder = os.path.join(home, _DIGEST)
            for name in os.listdir(folder) if os.path.isdir(folder) else ():
                if name.startswith(f"{self._name}-"):
                    throw_away(os.path.join(folder, name))

    def _key(self, sig, codegen):
        settings = tuple((name, str(getattr(config, name, None))) for name in _SETTINGS)
        return self._name, repr(self._constants), sig, codegen.magic_tuple(), WANTED_BITS, settings

    def _file(self, key):
        return f"{self._name}-{hashlib.sha256(str(key).encode()).hexdigest()[:24]}{_ENDING}"

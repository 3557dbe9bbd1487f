"""The grammar of the ``yolo`` command: command, task, flags and key=value in any order, spaces around the sign.

Ultralytics is imported inside the functions: a help text and a version need none of it.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vanillayolo.errors import UsageError, closest
from vanillayolo.values import shown

#: Keys whose values are text, however they look.
TEXTS = {"model", "models", "reference", "path", "folder", "data", "name", "project", "weights", "cfg", "tracker"}
TEXTS |= {"space", "variant"}
WORDS = {"true": True, "false": False, "none": None, "null": None}
Command = Callable[..., None]


def parse_value(text: str) -> Any:
    """Return a value as Python reads it: number, list, true/false/none in any case; anything else is text."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: thousands of brackets
        return text


def named(function: Command) -> dict[str, inspect.Parameter]:
    """Return the parameters that a command names, by name; one that takes Ultralytics' settings takes others too."""
    return {n: p for n, p in inspect.signature(function).parameters.items() if p.kind is not p.VAR_KEYWORD}


def is_open_ended(function: Command) -> bool:
    """Return whether a command takes keys that it does not name."""
    return len(named(function)) < len(inspect.signature(function).parameters)


def _command(words: list[str], commands: Mapping[str, Command]) -> str:
    """Take the command out of the words and return it."""
    for word in words:
        mode = word.removeprefix("mode=")
        if mode in commands:
            words.remove(word)
            return mode
    from vanillayolo.yolo.keys import TASK_WORDS

    first = next((word for word in words if word not in TASK_WORDS and "=" not in word), "")
    if first:
        raise UsageError(f"no command {shown(first)}: {closest(first, commands)}")
    valued = next((word for word in words if word.partition("=")[0] in commands), None)
    if valued is not None:
        raise UsageError(f"{shown(valued)}: a command takes no value; write {valued.partition('=')[0]} KEY=VALUE.")
    raise UsageError(f"no command is given; allowed: {', '.join(commands)}; see --help.")


def _joined(arguments: Sequence[str]) -> list[str]:
    """Return the words with the spaces around ``=`` taken away.

    Raises:
        UsageError: for a sign that begins a word and has no key before it.
    """
    for before, word in zip(["=", *arguments], arguments, strict=False):
        if word.startswith("=") and "=" in before:
            raise UsageError(f"{shown(word)}: no key stands before the sign; write KEY=VALUE.")
    if len(arguments) == 1:
        return list(arguments)
    from vanillayolo.yolo.keys import joined_words

    return joined_words(arguments)


def _setting(mode: str, word: str, function: Command, commands: Mapping[str, Command]) -> tuple[str, str]:
    """Return key and value of a word: ``key=value``, a task, or a flag that stands for true."""
    key, sign, value = word.partition("=")
    if sign and key:
        key, value = key.strip(), value.strip()
        if key == "mode" and value != mode:
            raise UsageError(f"{mode} mode={shown(value)}: two commands; give one of them.")
        return key, value
    from vanillayolo.yolo.keys import FLAGS, KEYS, TASK_WORDS

    flags = {n for n, p in named(function).items() if isinstance(p.default, bool)}
    if word in flags or (is_open_ended(function) and word in FLAGS):
        return word, "true"
    if word in TASK_WORDS:
        return "task", word
    if word in commands:
        raise UsageError(f"{mode} {word}: two commands; give one of them.")
    if word in named(function) or word in KEYS:
        raise UsageError(f"{mode}: {word} has no value; write {word}=VALUE.")
    raise UsageError(f"{mode}: {shown(word)} is not key=value (write e.g. model=yolo11n-vanillanet).")


def parse(arguments: Sequence[str], commands: Mapping[str, Command]) -> tuple[Command, dict[str, Any]]:
    """Return the command's function and its settings.

    Args:
        arguments: the words after the program's name.
        commands: the functions by name.

    Raises:
        UsageError: for an unknown command or key, or a word that is neither task nor flag nor key=value.
    """
    words = [word.removeprefix("--").removesuffix(",") for word in _joined(arguments)]
    mode = _command(words, commands)
    function = commands[mode]
    settings: dict[str, Any] = {}
    for word in words:
        key, value = _setting(mode, word, function, commands)
        if key in settings:
            raise UsageError(f"{mode}: {shown(key)} is given twice; give it once.")
        settings[key] = value if key in TEXTS else parse_value(value)
    if settings.get("cfg") is not None:
        from vanillayolo.yolo.keys import WITH_FILE, settings_file

        if mode in WITH_FILE:
            settings = {**settings_file(settings.pop("cfg")), **settings}
    parameters = named(function)
    for key in settings:
        if key not in parameters and not is_open_ended(function):
            raise UsageError(f"{mode} has no key {shown(key)}: {closest(key, parameters)}")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in settings:
            raise UsageError(f"{mode}: {name}= is missing. {(function.__doc__ or '').splitlines()[0]}")
    return function, settings

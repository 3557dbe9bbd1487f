"""Completion for shells: a script that knows the commands and the keys of each, made from the tables of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

BASH = r"""# Completion of the command vanillayolo, made by: vanillayolo completion bash
_vanillayolo() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} word words="@COMMANDS@"
    if [[ $cur == "=" || $prev == "=" ]]; then
        local IFS=$'\n'
        compopt -o filenames 2>/dev/null
        COMPREPLY=($(compgen -f -- "${cur#=}"))
        return
    fi
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
@CASES@
        esac
    done
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    [[ ${COMPREPLY[0]} != *= ]] || compopt -o nospace 2>/dev/null
}
complete -F _vanillayolo vanillayolo
"""
ZSH = r"""#compdef vanillayolo
# Completion of the command vanillayolo, made by: vanillayolo completion zsh
_vanillayolo() {
    local word words_of="@COMMANDS@"
    if [[ $PREFIX == *=* ]]; then
        compset -P '*='
        _files
        return
    fi
    for word in ${words[2,CURRENT-1]}; do
        case $word in
@CASES@
        esac
    done
    local -a keys=(${(M)${=words_of}:#*=}) plain=(${${=words_of}:#*=})
    compadd -S '' -- $keys
    compadd -- $plain
}
(( $+functions[compdef] )) && compdef _vanillayolo vanillayolo
"""
#: By shell: its script, and the variable in it that holds the words to choose from.
SHELLS = {"bash": (BASH, "words"), "zsh": (ZSH, "words_of")}


def completion_script(shell: str, keys: Mapping[str, Sequence[str]]) -> str:
    """Return the script for a shell.

    Args:
        shell: ``bash`` or ``zsh``.
        keys: by command: its keys.
    """
    script, variable = SHELLS[shell]
    offered = {name: " ".join(f"{key}=" for key in found) for name, found in keys.items()}
    cases = "\n".join(f'            {name}) {variable}="{words}"; break ;;' for name, words in offered.items())
    return script.replace("@COMMANDS@", " ".join(keys)).replace("@CASES@", cases)

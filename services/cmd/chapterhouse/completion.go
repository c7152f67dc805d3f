package main

import (
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// The scripts ask the program itself, so that they need not be printed anew for a new version. Where the program knows
// nothing to propose, the shell proposes files.
const (
	bashScript = `_chapterhouse() {
  local IFS=$'\n'
  COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _chapterhouse chapterhouse
`
	zshScript = `#compdef chapterhouse
_chapterhouse() {
  local -a candidates
  candidates=("${(@f)$("${words[1]}" complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "${candidates[*]}" ]]; then compadd -- "${candidates[@]}"; else _files; fi
}
compdef _chapterhouse chapterhouse
`
	fishScript = `function __chapterhouse_complete
  set -l words (commandline -opc) (commandline -ct)
  $words[1] complete -- $words[2..-1] 2>/dev/null
end
complete -c chapterhouse -a '(__chapterhouse_complete)'
`
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"${enum}."`
}

// Run prints the script.
func (c *completionCommand) Run(a *app) error {
	_, err := io.WriteString(a.stdout, map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[c.Shell])
	return err
}

type completeCommand struct {
	Words []string `arg:"" optional:"" passthrough:"all" help:"The words of the line after the program's name, the last one unfinished."`
}

// Run prints the candidates for the last word, a line each.
func (c *completeCommand) Run(a *app, parsed *kong.Context) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	for _, candidate := range candidates(parsed.Model.Node, words[:len(words)-1], last) {
		if !strings.HasPrefix(candidate, last) {
			continue
		}
		if _, err := fmt.Fprintln(a.stdout, candidate); err != nil {
			return err
		}
	}
	return nil
}

// candidates are what can stand after the words: values of the flag before, flags, or commands.
func candidates(node *kong.Node, before []string, last string) []string {
	var waiting *kong.Flag // for its value
	given := 0             // arguments of the command
	for _, word := range before {
		switch {
		case waiting != nil:
			waiting = nil
		case strings.HasPrefix(word, "-"):
			waiting = valued(node, word)
		case child(node, word) != nil:
			node = child(node, word)
		default:
			given++
		}
	}
	switch {
	case waiting != nil:
		return values(waiting.Value)
	case strings.HasPrefix(last, "-"):
		return flagsOf(node)
	case len(node.Children) > 0:
		return commandsOf(node)
	case given < len(node.Positional):
		return values(node.Positional[given])
	}
	return nil
}

// valued is the flag that a word names, when its value is the next word.
func valued(node *kong.Node, word string) *kong.Flag {
	for _, group := range node.AllFlags(true) {
		for _, flag := range group {
			if (word == "--"+flag.Name || flag.Short != 0 && word == "-"+string(flag.Short)) && !flag.IsBool() {
				return flag
			}
		}
	}
	return nil
}

// values are those of an enum; of a context, the saved ones.
func values(v *kong.Value) []string {
	if v.Enum != "" {
		return v.EnumSlice()
	}
	if v.Flag != nil && v.Name == "context" || v.Flag == nil && isContext(v) {
		saved, _ := loadContexts() // who cannot read them has nothing to choose from
		return slices.Sorted(maps.Keys(saved.Contexts))
	}
	return nil
}

// isContext says whether an argument names a saved context.
func isContext(v *kong.Value) bool { return v.Target.Type() == reflect.TypeFor[contextArgument]() }

func flagsOf(node *kong.Node) []string {
	var names []string
	for _, group := range node.AllFlags(true) {
		for _, flag := range group {
			names = append(names, "--"+flag.Name)
		}
	}
	return names
}

func commandsOf(node *kong.Node) []string {
	var names []string
	for _, child := range node.Children {
		if !child.Hidden {
			names = append(names, child.Name)
		}
	}
	return names
}

func child(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == name && !child.Hidden {
			return child
		}
	}
	return nil
}

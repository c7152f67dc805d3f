// Command chapterhouse is the whole platform in one program: `up` runs all of it on one machine, `serve` one service of
// a deployment, and the rest is for operators.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
)

// version is set by the linker.
var version = "unknown"

// app is what a command needs of the world: data goes to stdout, everything else to stderr.
type app struct {
	ctx    context.Context //nolint:containedctx // kong hands one value to every command
	stdin  *os.File
	stdout io.Writer
	stderr io.Writer
}

// commands is the command line. Each command has its own file.
type commands struct {
	Up       upCommand       `cmd:"" help:"Run the whole platform in one process."`
	Serve    serveCommand    `cmd:"" help:"Run one service of a deployment."`
	Migrate  migrateCommand  `cmd:"" help:"Bring a service's database up to date."`
	Keys     keysCommand     `cmd:"" help:"Make the keys, passwords and tokens of a deployment."`
	Token    tokenCommand    `cmd:"" help:"Print a bearer token for a local platform, running or not."`
	Demo     demoCommand     `cmd:"" help:"Load the demo federation."`
	Standing standingCommand `cmd:"" help:"Read standings."`
	Charter  charterCommand  `cmd:"" help:"List charters, apply, and decide."`
	List     listCommand     `cmd:"" help:"Keep a chapter's lists in step with a file: plan, apply, undo, export, follow."`
	Context  contextCommand  `cmd:"" help:"Where list commands go, and as whom."`
	Audit    auditCommand    `cmd:"" help:"Recount what is kept as a running figure."`
	Version  versionCommand  `cmd:"" help:"Print the version."`

	Completion completionCommand `cmd:"" help:"Print the completion script for a shell."`
	Complete   completeCommand   `cmd:"" hidden:"" help:"Print what the last word could become; for the completion scripts."`
}

func main() {
	ctx, stop := signalled(os.Stderr)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run carries out one command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	exit := -1
	parser, err := kong.New(&commands{}, kong.Name("chapterhouse"), kong.UsageOnError(), kong.Writers(stdout, stderr),
		kong.Description("A federation of user groups: chapters, their standing and their charters."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Exit(func(code int) { exit = code }), // --help
	)
	if err != nil {
		return fail(stderr, err)
	}
	command, err := parser.Parse(args)
	if exit >= 0 {
		return exit
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "chapterhouse: %v (see chapterhouse --help)\n", err)
		return exitUsage
	}
	if err := command.Run(&app{ctx: ctx, stdin: os.Stdin, stdout: stdout, stderr: stderr}); err != nil {
		return fail(stderr, err)
	}
	return exitDone
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run(a *app) error {
	_, err := fmt.Fprintln(a.stdout, version)
	return err
}

package platformtest

import (
	"os/exec"
	"syscall"
)

// tieToParent ends the process when the thread that starts it ends.
func tieToParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

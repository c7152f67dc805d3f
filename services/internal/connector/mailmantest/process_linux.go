package mailmantest

import (
	"os/exec"
	"runtime"
	"syscall"
)

// start starts cmd so that the kernel ends it when we end, however. It does so when the thread ends that started it,
// which therefore stays.
func start(cmd *exec.Cmd) (ended <-chan struct{}, err error) {
	cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	started, done := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(done)
		}
	}()
	return done, <-started
}

//go:build unix && !linux

package postgres

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// tieToParent does nothing: only Linux has a parent death signal. Elsewhere a server
// outlives a parent that was killed, until the next start ends it.
func tieToParent(*syscall.SysProcAttr) {}

// serversIn returns the postmaster when its command line names the data directory.
func serversIn(data string, postmaster int) []int {
	if postmaster == 0 {
		return nil
	}
	command, err := exec.Command("ps", "-p", strconv.Itoa(postmaster), "-o", "command=").Output() //nolint:gosec // a number
	if err != nil || !strings.Contains(string(command), data) {
		return nil
	}
	return []int{postmaster}
}

// elsewhere says whether the process does not work in the data directory.
func elsewhere(pid int, data string) bool { return len(serversIn(data, pid)) == 0 }

// throwawayBase is where data goes that nobody keeps.
func throwawayBase() string { return os.TempDir() }

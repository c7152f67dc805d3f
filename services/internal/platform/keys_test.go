package platform

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
)

func TestKeys(t *testing.T) {
	t.Parallel()

	t.Run("AreReadableByTheirOwnerAlone", func(t *testing.T) {
		t.Parallel()
		keys := makeKeys(t, "main")
		entries, err := os.ReadDir(keys.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			info, err := entry.Info()
			if err != nil {
				t.Fatal(err)
			}
			if entry.Name() != authz.JWKSFile && info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %o", entry.Name(), info.Mode().Perm())
			}
		}
	})

	t.Run("StayWhenASiteIsAdded", func(t *testing.T) {
		t.Parallel()
		keys := makeKeys(t, "main")
		before := map[string]string{}
		for _, name := range []string{masterKeyFile, siteKeyFile("main"), natsPasswordFile(bus.Local, "main"), authz.SigningKeyFile} {
			before[name] = read(t, keys.path(name))
		}
		if _, err := MakeKeys(keys.Dir, []string{"main", "berlin"}); err != nil {
			t.Fatal(err)
		}
		for name, text := range before {
			if read(t, keys.path(name)) != text {
				t.Errorf("%s has changed", name)
			}
		}
		if read(t, keys.path(siteKeyFile("berlin"))) == before[siteKeyFile("main")] {
			t.Error("two sites have one key")
		}
	})

	t.Run("SiteKeyIsTheMastersChild", func(t *testing.T) {
		t.Parallel()
		keys := makeKeys(t, "main")
		master, err := ReadMasterKey(keys.path(masterKeyFile))
		if err != nil {
			t.Fatal(err)
		}
		site, err := ReadSiteKey(keys.path(siteKeyFile("main")))
		if err != nil {
			t.Fatal(err)
		}
		if master.SiteKey("main").Hex() != site.Hex() {
			t.Error("the site's key is not derived from the master key")
		}
	})

	t.Run("ServiceTokensVerify", func(t *testing.T) {
		t.Parallel()
		keys := makeKeys(t, "main")
		now := clock.System{}.Now()
		if err := keys.MintServiceTokens([]string{"main"}, time.Hour, now); err != nil {
			t.Fatal(err)
		}
		verifier, err := authz.NewStaticVerifier(keys.path(authz.JWKSFile), clock.System{})
		if err != nil {
			t.Fatal(err)
		}
		token, err := ReadSecret(keys.ServiceToken(bus.Local, "main"))
		if err != nil {
			t.Fatal(err)
		}
		principal, err := verifier.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if want := (authz.Grant{Role: authz.Site, Scope: "sites/main"}); len(principal.Grants) != 1 || principal.Grants[0] != want {
			t.Errorf("grants of the local service: %v, want %v", principal.Grants, want)
		}
	})

	t.Run("RefuseASiteThatIsNoName", func(t *testing.T) {
		t.Parallel()
		if _, err := MakeKeys(t.TempDir(), []string{"../up"}); err == nil {
			t.Error("made a key for ../up")
		}
	})
}

func makeKeys(t *testing.T, sites ...string) Keys {
	t.Helper()
	keys, err := MakeKeys(filepath.Join(t.TempDir(), "keys"), sites)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

package platform

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
)

// Keys is a directory of secrets: those of a whole platform, from which each server of a separate deployment gets its
// own files. All but the public keys are readable by their owner alone.
type Keys struct{ Dir string }

// The files beside those of authz.GenerateKey.
const (
	masterKeyFile = "master.key"
	natsUsersFile = "nats-users.json"
	databasesFile = "databases.json"
	outsideFile   = "outside.json"
)

// site names become file names, NATS users and parts of subjects.
var siteName = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// MakeKeys makes what is missing: the key that signs tokens and its JWKS, the master matching key, each site's derived
// key, and the NATS users with their passwords. What is there stays, so that a further site can be added later.
func MakeKeys(dir string, sites []string) (Keys, error) {
	k := Keys{dir}
	for _, site := range sites {
		if !siteName.MatchString(site) {
			return k, fmt.Errorf("%q is no name for a site", site)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return k, err
	}
	if err := authz.GenerateKey(dir); err != nil {
		return k, fmt.Errorf("key for tokens: %w", err)
	}
	if err := k.makeMatchingKeys(sites); err != nil {
		return k, fmt.Errorf("matching keys: %w", err)
	}
	if err := k.makeUsers(sites); err != nil {
		return k, fmt.Errorf("NATS users: %w", err)
	}
	return k, nil
}

func (k Keys) makeMatchingKeys(sites []string) error {
	if _, err := os.Stat(k.path(masterKeyFile)); errors.Is(err, fs.ErrNotExist) {
		if err := k.write(masterKeyFile, address.NewMasterKey().Hex()+"\n"); err != nil {
			return err
		}
	}
	master, err := ReadMasterKey(k.path(masterKeyFile))
	if err != nil {
		return err
	}
	for _, site := range sites {
		if err := k.write(siteKeyFile(site), master.SiteKey(site).Hex()+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// makeUsers writes the users for the NATS server, and each one's password for the service.
func (k Keys) makeUsers(sites []string) error {
	users, err := ReadUsers(k.path(natsUsersFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	wanted := []bus.UserConfig{{Tier: bus.International, Site: bus.MainSite}, {Tier: bus.Regional, Site: bus.MainSite}}
	for _, site := range sites {
		wanted = append(wanted, bus.UserConfig{Tier: bus.Local, Site: site})
	}
	for _, user := range wanted {
		if passwordOf(users, user.Tier, user.Site) == "" {
			user.Password = rand.Text()
			users = append(users, user)
		}
	}
	for _, user := range users {
		if err := k.write(natsPasswordFile(user.Tier, user.Site), user.Password+"\n"); err != nil {
			return err
		}
	}
	file := make([]natsUser, 0, len(users))
	for _, user := range users {
		file = append(file, natsUser(user))
	}
	return k.writeJSON(natsUsersFile, file)
}

// natsUser is a bus.UserConfig as the file of users has it.
type natsUser struct {
	Tier     string `json:"tier"`
	Site     string `json:"site"`
	Password string `json:"password"`
}

// Password returns the NATS password of a tier's site.
func (k Keys) Password(tier, site string) (string, error) {
	users, err := ReadUsers(k.path(natsUsersFile))
	if err != nil {
		return "", err
	}
	return passwordOf(users, tier, site), nil
}

func passwordOf(users []bus.UserConfig, tier, site string) string {
	for _, user := range users {
		if user.Tier == tier && user.Site == site {
			return user.Password
		}
	}
	return ""
}

// ServiceToken is the file with the token that a tier's site shows the other tiers.
func (k Keys) ServiceToken(tier, site string) string {
	return k.path("service-" + bus.User(tier, site) + ".token")
}

// MintServiceTokens writes the tokens that the servers of a separate deployment show each other.
func (k Keys) MintServiceTokens(sites []string, ttl time.Duration, now time.Time) error {
	type server struct{ tier, site string }
	servers := []server{{bus.International, bus.MainSite}, {bus.Regional, bus.MainSite}}
	for _, site := range sites {
		servers = append(servers, server{bus.Local, site})
	}
	for _, s := range servers {
		token, err := k.Mint(servicePrincipal(s.tier, s.site), ttl, now)
		if err != nil {
			return err
		}
		if err := writeFile(k.ServiceToken(s.tier, s.site), []byte(token+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func servicePrincipal(tier, site string) authz.Principal {
	grant := authz.Grant{Role: authz.Service, Scope: authz.Federation}
	if tier == bus.Local {
		grant = authz.Grant{Role: authz.Site, Scope: "sites/" + site}
	}
	return authz.Principal{Subject: "service:" + bus.User(tier, site), Grants: []authz.Grant{grant}}
}

// Signer mints tokens with the key of the directory.
func (k Keys) Signer() (*authz.Signer, error) { return authz.LoadSigner(k.path(authz.SigningKeyFile)) }

// Mint makes a token with the key of the directory.
func (k Keys) Mint(p authz.Principal, ttl time.Duration, now time.Time) (string, error) {
	signer, err := k.Signer()
	if err != nil {
		return "", err
	}
	return authz.Mint(signer, p, ttl, now)
}

// databasePasswords returns a password for each of the roles, making those that are missing.
func (k Keys) databasePasswords(roles ...string) (map[string]string, error) {
	passwords := map[string]string{}
	if err := readJSON(k.path(databasesFile), &passwords); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	missing := false
	for _, role := range roles {
		if passwords[role] == "" {
			passwords[role], missing = rand.Text(), true
		}
	}
	if !missing {
		return passwords, nil
	}
	return passwords, k.writeJSON(databasesFile, passwords)
}

func (k Keys) path(name string) string { return filepath.Join(k.Dir, name) }

func (k Keys) write(name, text string) error { return writeFile(k.path(name), []byte(text), 0o600) }

func (k Keys) writeJSON(name string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return k.write(name, string(text)+"\n")
}

func siteKeyFile(site string) string            { return "site-" + site + ".key" }
func natsPasswordFile(tier, site string) string { return "nats-" + bus.User(tier, site) + ".password" }

// ReadMasterKey reads a file with the master matching key.
func ReadMasterKey(path string) (address.MasterKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return address.MasterKey{}, err
	}
	return address.ParseMasterKey(string(text))
}

// ReadSiteKey reads a file with a site's matching key.
func ReadSiteKey(path string) (address.SiteKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return address.SiteKey{}, err
	}
	return address.ParseSiteKey(string(text))
}

// ReadUsers reads the users of a NATS server.
func ReadUsers(path string) ([]bus.UserConfig, error) {
	var file []natsUser
	err := readJSON(path, &file)
	users := make([]bus.UserConfig, 0, len(file))
	for _, user := range file {
		users = append(users, bus.UserConfig(user))
	}
	return users, err
}

// readJSON does not pass on what encoding/json says: it could quote a secret.
func readJSON(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if json.Unmarshal(text, into) != nil {
		return fmt.Errorf("%s is not readable", path)
	}
	return nil
}

// ReadSecret reads a file that holds one password or token.
func ReadSecret(path string) (string, error) {
	text, err := os.ReadFile(path)
	return strings.TrimSpace(string(text)), err
}

// KeysOf returns the keys of a local platform that has been started at least once.
func KeysOf(dir string) (Keys, error) {
	text, err := os.ReadFile(filepath.Join(dir, markerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Keys{}, fmt.Errorf("%s holds no platform: start one with chapterhouse up --data %s", dir, dir)
	}
	if err != nil {
		return Keys{}, err
	}
	k := Keys{filepath.Join(dir, secretsDir)}
	if err := checkMarker(dir, text); err != nil {
		return k, err
	}
	if _, err := os.Stat(k.path(authz.SigningKeyFile)); err != nil {
		return k, fmt.Errorf("the keys of %s: %w", dir, err)
	}
	return k, nil
}

// KeyFile is a file of a Keys directory and who needs it.
type KeyFile struct{ Name, Purpose string }

// Describe lists what each server of a deployment gets.
func (k Keys) Describe() []KeyFile {
	files := []KeyFile{
		{authz.SigningKeyFile, "mints tokens; stays with the operator"},
		{authz.JWKSFile, "verifies tokens; for every service"},
		{masterKeyFile, "master matching key; for international alone"},
		{natsUsersFile, "for the NATS server alone"},
	}
	users, _ := ReadUsers(k.path(natsUsersFile)) // written a moment ago
	for _, user := range users {
		name := bus.User(user.Tier, user.Site)
		if user.Tier == bus.Local {
			files = append(files, KeyFile{siteKeyFile(user.Site), "matching key of the site; for " + name})
		}
		files = append(files,
			KeyFile{natsPasswordFile(user.Tier, user.Site), "password at NATS; for " + name},
			KeyFile{filepath.Base(k.ServiceToken(user.Tier, user.Site)), "shown to the other services; for " + name})
	}
	return files
}

package postgres

import "maps"

// settings are given on the command line, so that a newer program tunes an old data
// directory, and a postgresql.conf that somebody edited decides only what is absent here.
func settings(config ClusterConfig, socketDir string) map[string]string {
	s := map[string]string{ //nolint:gosec // no credentials: the name of a method
		"listen_addresses":        "", // a fixed port reaches somebody else's server sooner or later
		"unix_socket_directories": socketDir,
		"unix_socket_permissions": "0700",
		"password_encryption":     "scram-sha-256",
		"timezone":                "UTC",
		"log_timezone":            "UTC",

		"max_connections":  "200", // three tiers with a pool of 16 and some services each
		"shared_buffers":   "128MB",
		"wal_compression":  "on",
		"max_wal_size":     "1GB",
		"random_page_cost": "1.1", // no spinning disks
		"jit":              "off", // compiling costs more than these queries take

		// What the server logs goes to our log. Statements and details would carry
		// e-mail addresses into it ("Key (address)=(...) already exists").
		"logging_collector":       "off",
		"log_destination":         "stderr",
		"log_line_prefix":         "",
		"log_error_verbosity":     "terse",
		"log_min_error_statement": "panic",
		"log_checkpoints":         "off",
		"lc_messages":             "C", // tail.blockedByPredecessor reads them
	}
	if config.Throwaway {
		maps.Copy(s, throwaway)
	}
	maps.Copy(s, config.Settings)
	return s
}

// throwaway settings never wait for a disk, and do nothing at moments of their own.
var throwaway = map[string]string{
	"fsync":              "off",
	"full_page_writes":   "off",
	"synchronous_commit": "off",
	"wal_level":          "minimal",
	"max_wal_senders":    "0",
	"max_wal_size":       "4GB",
	"checkpoint_timeout": "1h",
	"autovacuum":         "off",
	"max_connections":    "500", // many tests in parallel, a pool each
}

package postgres

import (
	"context"
	"errors"
	"log/slog"
)

// ClusterConfig says where a cluster lives and how it is tuned.
type ClusterConfig struct {
	Dir       string
	Throwaway bool
	Log       *slog.Logger
	Settings  map[string]string
}

// Cluster is a PostgreSQL server that runs as our child.
type Cluster struct{}

var errTodo = errors.New("not built yet")

// FindBinaries returns the directory with initdb and postgres.
func FindBinaries() (string, error) { return "", errTodo }

// StartCluster starts a cluster.
func StartCluster(context.Context, ClusterConfig) (*Cluster, error) { return nil, errTodo }

// AdminURL connects as superuser.
func (c *Cluster) AdminURL(string) string { return "" }

// URL connects as the tier's role.
func (c *Cluster) URL(Tier) string { return "" }

// PID of the postmaster, 0 while there is none.
func (c *Cluster) PID() int { return 0 }

// Stop ends the server.
func (c *Cluster) Stop(context.Context) error { return nil }

// Done is closed when the server has ended for good.
func (c *Cluster) Done() <-chan struct{} { return nil }

// Kill sends SIGKILL to the server and waits until it is back.
func (c *Cluster) Kill(context.Context) error { return nil }

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// tierLock keeps two callers from changing the same row of pg_database at once, which
// Postgres answers with "tuple concurrently updated".
const tierLock = 4_201_733_191

// Tier is a database with the one role that may connect to it.
type Tier struct{ Database, Role, Password string }

// CreateTier makes or updates the tier's role and database. The role owns its database,
// can connect to no other, and can make neither databases nor roles. Calling it again
// changes the password to t.Password.
//
// The admin role of a managed server is no superuser; there, the right to connect to the
// maintenance databases stays with PUBLIC when that role may not take it away.
func CreateTier(ctx context.Context, adminURL string, t Tier) error {
	conn, err := connect(ctx, adminURL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	a := admin{Conn: conn}
	if err := conn.QueryRow(ctx, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user").Scan(&a.superuser); err != nil {
		return fmt.Errorf("read the rights of the admin role: %w", err)
	}
	// Ends with the session.
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(tierLock)); err != nil {
		return fmt.Errorf("take the lock for databases and roles: %w", err)
	}
	if err := a.role(ctx, t); err != nil {
		return fmt.Errorf("create role %s: %w", t.Role, err)
	}
	if err := a.database(ctx, t); err != nil {
		return fmt.Errorf("create database %s: %w", t.Database, err)
	}
	if err := a.closeToOthers(ctx, t.Database); err != nil {
		return fmt.Errorf("close database %s to other roles: %w", t.Database, err)
	}
	return nil
}

type admin struct {
	*pgx.Conn
	superuser bool
}

func (a admin) exists(ctx context.Context, query, name string) (found bool, err error) {
	err = a.QueryRow(ctx, "SELECT EXISTS ("+query+")", name).Scan(&found)
	return found, err
}

func (a admin) role(ctx context.Context, t Tier) error {
	found, err := a.exists(ctx, "SELECT FROM pg_roles WHERE rolname = $1", t.Role)
	if err != nil {
		return err
	}
	verb := "CREATE"
	if found {
		verb = "ALTER"
	}
	rights := " LOGIN NOCREATEDB NOCREATEROLE"
	if a.superuser { // others cannot have given these rights, and may not even name them
		rights += " NOSUPERUSER NOREPLICATION NOBYPASSRLS"
	}
	_, err = a.Exec(ctx, verb+" ROLE "+quoteName(t.Role)+rights+" PASSWORD "+quoteText(t.Password))
	return err
}

func (a admin) database(ctx context.Context, t Tier) error {
	if err := a.joinRole(ctx, t.Role); err != nil {
		return err
	}
	found, err := a.exists(ctx, "SELECT FROM pg_database WHERE datname = $1", t.Database)
	if err != nil {
		return err
	}
	if found {
		_, err = a.Exec(ctx, "ALTER DATABASE "+quoteName(t.Database)+" OWNER TO "+quoteName(t.Role))
		return err
	}
	// Bytewise order on every server: pages and merges of sorted keys rely on it.
	_, err = a.Exec(ctx, "CREATE DATABASE "+quoteName(t.Database)+" OWNER "+quoteName(t.Role)+
		" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C'")
	return err
}

// joinRole lets an admin who is no superuser give a database to the role. Having made
// the role is not enough: since PostgreSQL 16 that comes without the right to SET it.
func (a admin) joinRole(ctx context.Context, role string) error {
	if a.superuser {
		return nil
	}
	_, err := a.Exec(ctx, "GRANT "+quoteName(role)+" TO CURRENT_USER")
	return err
}

func (a admin) closeToOthers(ctx context.Context, database string) error {
	for _, name := range []string{database, "postgres", "template1"} {
		_, err := a.Exec(ctx, "REVOKE CONNECT, TEMPORARY ON DATABASE "+quoteName(name)+" FROM PUBLIC")
		if err != nil && (name == database || !notOurs(err)) {
			return err
		}
	}
	return nil
}

// notOurs: the maintenance database belongs to somebody else, or there is none.
func notOurs(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code == "42501" || pgErr.Code == "3D000")
}

func quoteName(name string) string { return pgx.Identifier{name}.Sanitize() }

// quoteText quotes a literal for statements that take no parameters.
func quoteText(text string) string {
	text = strings.ReplaceAll(text, "\x00", "")
	return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(text) + "'"
}

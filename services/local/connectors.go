package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/connector"
	"github.com/chapterhouse/chapterhouse/services/internal/connector/listmonk"
	"github.com/chapterhouse/chapterhouse/services/internal/connector/mailman"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// shortestInterval is between two runs of a connector.
const shortestInterval = time.Minute

// CreateConnector sets up a connector.
func (s *Service) CreateConnector(ctx context.Context, req *localv1.CreateConnectorRequest) (*localv1.Connector, error) {
	given := req.GetConnector()
	if id := req.GetConnectorId(); id == self || id == manual {
		return nil, rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "connectorId", "%s is a source of its own; choose another id", id)
	}
	if err := s.checkConnector(given); err != nil {
		return nil, err
	}
	return onList(ctx, s, req.GetParent(), func(tx pgx.Tx, list db.List, now time.Time) (*localv1.Connector, error) {
		name := connectorName(listName(list.ChapterID, list.ID), req.GetConnectorId())
		remote, secret, err := s.packConnector(name, given)
		if err != nil {
			return nil, err
		}
		row, err := db.New(tx).InsertConnector(ctx, db.InsertConnectorParams{
			ListNo: list.ListNo, ID: req.GetConnectorId(), DisplayName: given.GetDisplayName(), Remote: remote, Secret: secret,
			Direction: given.GetDirection().String(), Mode: modeOf(given), EverySeconds: everySeconds(given), Paused: given.GetPaused(),
			NextRunTime: nextRun(given, now), Now: now,
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, alreadyExists(name)
		}
		if err != nil {
			return nil, err
		}
		return viewConnector(name, row, nil)
	})
}

// checkConnector refuses settings that cannot work, as far as that shows without a call.
func (s *Service) checkConnector(c *localv1.Connector) error {
	if err := printable("connector.displayName", c.GetDisplayName()); err != nil {
		return err
	}
	if every := c.GetInterval().AsDuration(); every != 0 && every < shortestInterval {
		return rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "connector.interval", "must be %s at least, or 0 for runs on request only", shortestInterval)
	}
	_, err := s.remote(c)
	refusal, ok := errors.AsType[*connector.Error](err)
	if !ok {
		return err
	}
	field := "connector.secret"
	switch refusal.Setting {
	case connector.SettingURL:
		field = "connector." + kindOf(c) + ".url"
	case connector.SettingList:
		field = "connector." + kindOf(c) + ".listId"
	}
	return rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, field, "%s", refusal.Text)
}

func kindOf(c *localv1.Connector) string {
	if c.GetMailman() != nil {
		return "mailman"
	}
	return "listmonk"
}

// remote is the other tool's list.
func (s *Service) remote(c *localv1.Connector) (connector.Remote, error) {
	policy := s.config.Connectors.policy()
	if m := c.GetMailman(); m != nil {
		return mailman.New(mailman.Config{URL: m.GetUrl(), Username: m.GetUsername(), Password: c.GetSecret(), ListID: m.GetListId(), Policy: policy})
	}
	l := c.GetListmonk()
	return listmonk.New(listmonk.Config{URL: l.GetUrl(), Username: l.GetUsername(), Token: c.GetSecret(), ListID: int(l.GetListId()), Policy: policy})
}

// packConnector is what the database keeps of the other tool.
func (s *Service) packConnector(name string, c *localv1.Connector) (remote, secret []byte, err error) {
	remote, err = proto.Marshal(&localv1.Connector{Remote: c.GetRemote()})
	if err != nil {
		return nil, nil, fmt.Errorf("store the connector: %w", err)
	}
	secret, err = s.sealSecret(name, c.GetSecret())
	return remote, secret, err
}

// unpackConnector is the connector as it was given, with its secret.
func (s *Service) unpackConnector(name string, row db.Connector) (*localv1.Connector, error) {
	c, err := viewConnector(name, row, nil)
	if err != nil {
		return nil, err
	}
	c.Secret, err = s.openSecret(name, row.Secret)
	return c, err
}

func modeOf(c *localv1.Connector) string {
	if c.GetMode() == localv1.Sync_MERGE {
		return localv1.Sync_MERGE.String()
	}
	return localv1.Sync_REPLACE.String()
}

func everySeconds(c *localv1.Connector) int32 {
	return int32(c.GetInterval().AsDuration() / time.Second)
}

func nextRun(c *localv1.Connector, now time.Time) *time.Time {
	if everySeconds(c) == 0 {
		return nil
	}
	next := now.Add(c.GetInterval().AsDuration())
	return &next
}

// GetConnector reads a connector with its last run.
func (s *Service) GetConnector(ctx context.Context, req *localv1.GetConnectorRequest) (*localv1.Connector, error) {
	q := db.New(s.pool)
	row, err := findConnector(ctx, q, req.GetName())
	if err != nil {
		return nil, err
	}
	views, err := viewConnectors(ctx, q, listOf(req.GetName()), row)
	if err != nil {
		return nil, err
	}
	return views[0], nil
}

// findConnector reads the connector that a name, or what lies below it, belongs to.
func findConnector(ctx context.Context, q *db.Queries, name string) (db.Connector, error) {
	list, err := findList(ctx, q, name)
	if err != nil {
		return db.Connector{}, err
	}
	row, err := q.Connector(ctx, db.ConnectorParams{ListNo: list.ListNo, ID: element(name, 5)})
	return row, orNotFound(err, connectorName(listOf(name), element(name, 5)))
}

func connectorName(list, id string) string { return list + "/connectors/" + id }

// ListConnectors lists a list's connectors by id.
func (s *Service) ListConnectors(ctx context.Context, req *localv1.ListConnectorsRequest) (*localv1.ListConnectorsResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	q := db.New(s.pool)
	list, err := findList(ctx, q, req.GetParent())
	if err != nil {
		return nil, err
	}
	rows, err := q.ConnectorsAfter(ctx, db.ConnectorsAfterParams{ListNo: list.ListNo, After: page.after, Size: page.fetch()})
	if err != nil {
		return nil, err
	}
	answer := &localv1.ListConnectorsResponse{}
	rows, answer.NextPageToken = cut(page, rows, func(c db.Connector) string { return c.ID })
	answer.Connectors, err = viewConnectors(ctx, q, req.GetParent(), rows...)
	return answer, err
}

// UpdateConnector changes what the mask names. Its schedule begins anew.
func (s *Service) UpdateConnector(ctx context.Context, req *localv1.UpdateConnectorRequest) (*localv1.Connector, error) {
	given := req.GetConnector()
	return s.onConnector(ctx, given.GetName(), given.GetEtag(), func(tx pgx.Tx, row db.Connector, now time.Time) (*localv1.Connector, error) {
		merged, err := s.unpackConnector(given.GetName(), row)
		if err != nil {
			return nil, err
		}
		kind := kindOf(merged)
		err = rpc.Merge(merged, given, req.GetUpdateMask(), "connector",
			"display_name", "mailman", "listmonk", "secret", "direction", "mode", "interval", "paused")
		if err != nil {
			return nil, err
		}
		if merged.GetRemote() == nil || kindOf(merged) != kind {
			return nil, rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "connector."+kind, "the kind of tool stays; make another connector for another tool")
		}
		if err := s.checkConnector(merged); err != nil {
			return nil, err
		}
		remote, secret, err := s.packConnector(given.GetName(), merged)
		if err != nil {
			return nil, err
		}
		after, err := db.New(tx).UpdateConnector(ctx, db.UpdateConnectorParams{
			ConnectorNo: row.ConnectorNo, DisplayName: merged.GetDisplayName(), Remote: remote, Secret: secret,
			Direction: merged.GetDirection().String(), Mode: modeOf(merged), EverySeconds: everySeconds(merged), Paused: merged.GetPaused(),
			NextRunTime: nextRun(merged, now), Now: now,
		})
		if err != nil {
			return nil, err
		}
		return viewConnector(given.GetName(), after, nil)
	})
}

// DeleteConnector deletes a connector. What it brought stays on the list, claimed by its id.
func (s *Service) DeleteConnector(ctx context.Context, req *localv1.DeleteConnectorRequest) (*emptypb.Empty, error) {
	_, err := s.onConnector(ctx, req.GetName(), req.GetEtag(), func(tx pgx.Tx, row db.Connector, _ time.Time) (*localv1.Connector, error) {
		return &localv1.Connector{}, db.New(tx).DeleteConnector(ctx, row.ConnectorNo)
	})
	return &emptypb.Empty{}, err
}

// onConnector runs a change of one connector, whose row it locks first.
func (s *Service) onConnector(ctx context.Context, name, given string, change func(pgx.Tx, db.Connector, time.Time) (*localv1.Connector, error)) (*localv1.Connector, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (*localv1.Connector, error) {
		q := db.New(tx)
		list, err := findList(ctx, q, name)
		if err != nil {
			return nil, err
		}
		row, err := q.ConnectorForUpdate(ctx, db.ConnectorForUpdateParams{ListNo: list.ListNo, ID: element(name, 5)})
		if err != nil {
			return nil, orNotFound(err, name)
		}
		if err := rpc.CheckEtags(ctx, given, connectorEtag(row)); err != nil {
			return nil, err
		}
		return change(tx, row, s.clock.Now())
	})
}

// CheckConnector asks the other tool whether the settings are right.
func (s *Service) CheckConnector(ctx context.Context, req *localv1.CheckConnectorRequest) (*localv1.CheckConnectorResponse, error) {
	row, err := findConnector(ctx, db.New(s.pool), req.GetName())
	if err != nil {
		return nil, err
	}
	settings, err := s.unpackConnector(req.GetName(), row)
	if err != nil {
		return nil, err
	}
	remote, err := s.remote(settings)
	if err == nil {
		err = remote.Check(ctx)
	}
	if refusal, ok := errors.AsType[*connector.Error](err); ok {
		if refusal.Retry() {
			return nil, rpc.Unavailable(errorv1.Reason_REASON_CONNECTOR_UNREACHABLE, "%s", refusal.Text)
		}
		return nil, rpc.Precondition(errorv1.Reason_REASON_CONNECTOR_REFUSED, "%s", refusal.Text).With("setting", refusal.Setting)
	}
	if err != nil {
		return nil, err
	}
	return &localv1.CheckConnectorResponse{Text: "the list was found, and the credentials are right"}, nil
}

func connectorEtag(row db.Connector) string { return etag(row.CreateTime.UnixMicro(), row.Version) }

// viewConnectors shows connectors of a list with their last runs.
func viewConnectors(ctx context.Context, q *db.Queries, list string, rows ...db.Connector) ([]*localv1.Connector, error) {
	numbers := make([]int64, 0, len(rows))
	for _, row := range rows {
		numbers = append(numbers, row.ConnectorNo)
	}
	runs, err := q.LastRuns(ctx, numbers)
	if err != nil {
		return nil, err
	}
	last := map[int64]*db.ConnectorRun{}
	for i := range runs {
		last[runs[i].ConnectorNo] = &runs[i]
	}
	views := make([]*localv1.Connector, 0, len(rows))
	for _, row := range rows {
		view, err := viewConnector(connectorName(list, row.ID), row, last[row.ConnectorNo])
		if err != nil {
			return nil, err
		}
		views = append(views, view)
	}
	return views, nil
}

// viewConnector shows a connector without its secret.
func viewConnector(name string, row db.Connector, last *db.ConnectorRun) (*localv1.Connector, error) {
	view := &localv1.Connector{}
	if err := proto.Unmarshal(row.Remote, view); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	view.Name = name
	view.DisplayName = row.DisplayName
	view.Direction = localv1.Connector_Direction(localv1.Connector_Direction_value[row.Direction])
	view.Mode = localv1.Sync_Mode(localv1.Sync_Mode_value[row.Mode])
	view.Interval = durationpb.New(time.Duration(row.EverySeconds) * time.Second)
	view.Paused = row.Paused
	view.CreateTime, view.UpdateTime = timestamppb.New(row.CreateTime), timestamppb.New(row.UpdateTime)
	view.Etag = connectorEtag(row)
	if !row.Paused {
		view.NextRunTime = timestampOf(row.NextRunTime)
	}
	if last != nil {
		view.LastRun = viewRun(name, *last)
	}
	return view, nil
}

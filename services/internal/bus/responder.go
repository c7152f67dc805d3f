package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// answersAtOnce bounds the connections and the memory that answers take. Who is turned away asks
// again.
const answersAtOnce = 4

// ResponderConfig says who answers.
type ResponderConfig struct {
	Pool       *pgxpool.Pool
	NATS       *nats.Conn
	Tier, Site string
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Responder answers the snapshot and version requests of those who keep copies. Replicas share
// the requests.
type Responder struct {
	cfg     ResponderConfig
	owners  map[string]Owner
	log     *slog.Logger
	answers *prometheus.CounterVec // by what, result
}

// NewResponder returns a responder for the given kinds; Run does the work.
func NewResponder(cfg ResponderConfig, owners ...Owner) *Responder {
	r := &Responder{
		cfg:     cfg,
		owners:  make(map[string]Owner, len(owners)),
		log:     logOrDefault(cfg.Log).With("component", "responder"),
		answers: newAnswerMetric(cfg.Registerer, cfg.Tier, cfg.Site),
	}
	for _, owner := range owners {
		r.owners[owner.Kind] = owner
	}
	return r
}

// Run answers until ctx ends and then returns nil. It fails only when the connection was closed.
func (r *Responder) Run(ctx context.Context) error {
	asked, err := r.cfg.NATS.QueueSubscribeSync(askSubject("*", "*", r.cfg.Tier, r.cfg.Site, "*"), "responders")
	if err != nil {
		return fmt.Errorf("responder: %w", err)
	}
	defer func() { _ = asked.Unsubscribe() }()
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, answersAtOnce)
	for {
		msg, err := asked.NextMsgWithContext(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("responder: %w", err)
		}
		select {
		case slots <- struct{}{}:
			running.Go(func() {
				r.answer(ctx, msg)
				<-slots
			})
		default:
			refuse(msg, errors.New("busy, ask again later"))
		}
	}
}

func refuse(msg *nats.Msg, err error) {
	if checkReply(msg) != nil {
		return
	}
	answer := nats.NewMsg(msg.Reply)
	answer.Header.Set(headerError, oneLine(err.Error()))
	_ = msg.RespondMsg(answer)
}

func (r *Responder) answer(ctx context.Context, msg *nats.Msg) {
	what := msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:]
	err := checkReply(msg)
	if err == nil {
		err = guarded(func() error { return r.answerWhat(ctx, what, msg) })
	}
	if err == nil {
		r.answers.WithLabelValues(what, "answered").Inc()
		return
	}
	r.answers.WithLabelValues(what, "failed").Inc()
	if ctx.Err() == nil {
		r.log.Warn("cannot answer", "subject", msg.Subject, "error", err, stackOf(err))
	}
	refuse(msg, err)
}

// checkReply keeps an asker from having the answer written somewhere else: we may publish where the
// asker may not.
func checkReply(msg *nats.Msg) error {
	asker := strings.Split(msg.Subject, ".") // chq.<tier>.<site>....
	if prefix := inboxPrefix(User(asker[1], asker[2])) + "."; !strings.HasPrefix(msg.Reply, prefix) {
		return fmt.Errorf("the reply subject is not below %s", prefix)
	}
	return nil
}

func (r *Responder) answerWhat(ctx context.Context, what string, msg *nats.Msg) error {
	switch what {
	case whatSnapshot:
		return r.sendSnapshot(ctx, msg)
	case whatVersions:
		return r.sendVersions(ctx, msg)
	default:
		return fmt.Errorf("nothing is known about %q", what)
	}
}

func (r *Responder) owner(kind string) (Owner, error) {
	owner, found := r.owners[kind]
	if !found {
		return Owner{}, fmt.Errorf("%s/%s owns nothing of kind %q", r.cfg.Tier, r.cfg.Site, kind)
	}
	return owner, nil
}

func (r *Responder) sendVersions(ctx context.Context, msg *nats.Msg) error {
	var request versionsRequest
	if err := json.Unmarshal(msg.Data, &request); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	owner, err := r.owner(request.Kind)
	if err != nil {
		return err
	}
	limit := min(max(request.Limit, 1), versionsPage)
	versions, err := inSnapshot(ctx, r.cfg.Pool, func(tx pgx.Tx) ([]AggregateVersion, error) {
		return owner.Versions(ctx, tx, request.After, limit)
	})
	if err != nil {
		return err
	}
	return msg.Respond(mustJSON(versionsReply{Versions: versions}))
}

// inSnapshot runs f in one repeatable read.
func inSnapshot[T any](ctx context.Context, pool *pgxpool.Pool, f func(pgx.Tx) (T, error)) (T, error) {
	return postgres.InTxOptions(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, f)
}

func (r *Responder) sendSnapshot(ctx context.Context, msg *nats.Msg) error {
	var request snapshotRequest
	if err := json.Unmarshal(msg.Data, &request); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	owner, err := r.owner(request.Kind)
	if err != nil {
		return err
	}
	ctx, cancel := whileConnected(ctx, r.cfg.NATS, snapshotTimeout)
	defer cancel()
	out, err := newPartSender(ctx, r.cfg.NATS, msg.Reply)
	if err != nil {
		return err
	}
	defer out.close()
	last, err := inSnapshot(ctx, r.cfg.Pool, func(tx pgx.Tx) (*nats.Msg, error) {
		if out.sent > 0 {
			return nil, errors.New("the transaction had to start over")
		}
		version, found, err := owner.Snapshot(ctx, tx, request.Aggregate, out.send)
		return lastMessage(msg.Reply, out.sent, version, found), err
	})
	if err != nil {
		return fmt.Errorf("snapshot of %s: %w", request.Aggregate, err)
	}
	return r.cfg.NATS.PublishMsg(last)
}

func lastMessage(to string, count int, version Version, found bool) *nats.Msg {
	msg := nats.NewMsg(to)
	msg.Header.Set(headerCount, strconv.Itoa(count))
	msg.Header.Set(headerEpoch, strconv.FormatInt(version.Epoch, 10))
	msg.Header.Set(headerNumber, strconv.FormatInt(version.Number, 10))
	if !found {
		msg.Header.Set(headerGone, "true")
	}
	return msg
}

// partSender sends the parts of one snapshot, at most snapshotWindow ahead of the asker.
type partSender struct {
	ctx    context.Context
	nc     *nats.Conn
	to     string
	inbox  string
	acks   *nats.Subscription
	sent   int
	waited int
}

func newPartSender(ctx context.Context, nc *nats.Conn, to string) (*partSender, error) {
	inbox := nc.NewInbox()
	acks, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	return &partSender{ctx: ctx, nc: nc, to: to, inbox: inbox, acks: acks}, nil
}

func (s *partSender) close() { _ = s.acks.Unsubscribe() }

func (s *partSender) send(message proto.Message) error {
	if err := s.room(); err != nil {
		return err
	}
	data, err := proto.Marshal(message)
	if err != nil {
		return err
	}
	if len(data) > maxData {
		return fmt.Errorf("%d bytes, a part holds at most %d", len(data), maxData)
	}
	s.sent++
	msg := nats.NewMsg(s.to)
	msg.Reply, msg.Data = s.inbox, data
	msg.Header.Set(headerPart, strconv.Itoa(s.sent))
	msg.Header.Set(headerType, string(message.ProtoReflect().Descriptor().FullName()))
	return s.nc.PublishMsg(msg)
}

// room waits until the asker has stored enough of what was sent.
func (s *partSender) room() error {
	for s.sent-s.waited >= snapshotWindow {
		ctx, cancel := context.WithTimeout(s.ctx, partTimeout)
		msg, err := s.acks.NextMsgWithContext(ctx)
		cancel()
		if err == nil {
			err = answerError(msg) // nobody listens any more
		}
		if err != nil {
			return fmt.Errorf("wait for the asker: %w", err)
		}
		s.waited++
	}
	return nil
}

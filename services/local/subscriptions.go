package local

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// self is the source of those who came back by their own word. No file can speak in its name.
const self = "self"

// mailEvery is how often a person is mailed a link to confirm at most.
const mailEvery = time.Hour

// GetSubscription reads what a link is about.
func (s *Service) GetSubscription(ctx context.Context, req *localv1.GetSubscriptionRequest) (*localv1.Subscription, error) {
	l, err := s.openLink(req.GetName())
	if err != nil {
		return nil, err
	}
	if err := l.refuseExpired(s.clock.Now()); err != nil {
		return nil, err
	}
	about, err := db.New(s.pool).MailContext(ctx, db.MailContextParams{ListNo: l.listNo, Token: l.token})
	if err != nil {
		return nil, orNoLink(err)
	}
	return viewSubscription(req.GetName(), l, about), nil
}

// orNoLink: a link to a list that is not there was signed for another database.
func orNoLink(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return errLink
	}
	return err
}

// LeaveSubscription makes a tombstone of the person's entry, or a tombstone without an address where there is none:
// who was taken off a list and then leaves it is not to be put back.
func (s *Service) LeaveSubscription(ctx context.Context, req *localv1.LeaveSubscriptionRequest) (*localv1.Subscription, error) {
	method := "page"
	if req.GetOneClick() {
		method = "one-click"
	}
	return onLink(ctx, s, req.GetName(), func(c entryChange, l link) error {
		if c.entry.State == subscribed && l.announcement != uuid.Nil {
			if err := db.New(c.tx).MailLeft(ctx, db.MailLeftParams{AnnouncementID: &l.announcement, Token: l.token}); err != nil {
				return err
			}
		}
		if c.entry.State != 0 {
			_, err := c.leave(ctx, method, "")
			return err
		}
		_, err := db.New(c.tx).InsertTombstone(ctx, db.InsertTombstoneParams{
			ListNo: c.list.ListNo, Token: c.entry.Token, Version: c.list.Version + 1, Now: c.now,
		})
		if err != nil {
			return err
		}
		if err := record(ctx, c.tx, c.list.ListNo, consent{withdrawn, c.now, method, ""}, c.entry.Token); err != nil {
			return err
		}
		return c.move(ctx, unsubscribed)
	})
}

// RequestSubscription mails a link to confirm to who has left, or has not confirmed yet.
func (s *Service) RequestSubscription(ctx context.Context, req *localv1.RequestSubscriptionRequest) (*localv1.Subscription, error) {
	return onLink(ctx, s, req.GetName(), func(c entryChange, _ link) error {
		switch {
		case c.entry.State == subscribed:
			return nil
		case c.entry.Address == "" || c.list.Deleted:
			return c.refuse("the address is not known any more; ask the chapter to add it")
		}
		return s.remind(ctx, c)
	})
}

// SendConfirmation mails a PENDING entry its link once more.
func (s *Service) SendConfirmation(ctx context.Context, req *localv1.SendConfirmationRequest) (*localv1.Entry, error) {
	return onEntry(ctx, s, req.GetName(), "", func(c entryChange) (*localv1.Entry, error) {
		if c.entry.State != pending {
			return nil, c.refuse("only a PENDING entry has something to confirm")
		}
		if err := s.remind(ctx, c); err != nil {
			return nil, err
		}
		return c.view(ctx, c.entry)
	})
}

// remind asks for the person's word once more, unless the last mail is less than an hour old.
func (s *Service) remind(ctx context.Context, c entryChange) error {
	mailed, err := db.New(c.tx).MailedSince(ctx, db.MailedSinceParams{
		ListNo: c.list.ListNo, Token: c.entry.Token, Since: later(c.now.Add(-mailEvery), c.entry.UpdateTime.Add(-time.Microsecond)),
	})
	if err != nil || mailed {
		return err
	}
	return s.askToConfirm(ctx, c.tx, c.list.ListNo, c.entry.Token, c.now)
}

// ConfirmSubscription takes the person's word. It is the only way by which a tombstone is lifted.
func (s *Service) ConfirmSubscription(ctx context.Context, req *localv1.ConfirmSubscriptionRequest) (*localv1.Subscription, error) {
	return onLink(ctx, s, req.GetName(), func(c entryChange, l link) error {
		switch {
		case l.purpose != localv1.Subscription_CONFIRM:
			return errLink
		case c.entry.State == subscribed:
			return nil
		case c.entry.State == 0 || c.list.Deleted:
			return c.refuse("there is no such entry any more; ask the chapter to add it")
		case c.entry.State > pending && !l.issued.After(c.entry.UpdateTime):
			return c.refuse("the link is older than your leaving; ask for a new one there")
		}
		return s.confirm(ctx, c)
	})
}

func (s *Service) confirm(ctx context.Context, c entryChange) error {
	q := db.New(c.tx)
	about, err := q.MailContext(ctx, db.MailContextParams{ListNo: c.list.ListNo, Token: c.entry.Token})
	if err != nil {
		return err
	}
	if c.entry.State == pending {
		_, err = q.SetEntryState(ctx, db.SetEntryStateParams{
			ListNo: c.list.ListNo, Token: c.entry.Token, State: subscribed, Version: c.list.Version + 1, Now: c.now,
		})
	} else {
		_, err = q.ReturnEntry(ctx, db.ReturnEntryParams{
			ListNo: c.list.ListNo, Token: c.entry.Token, Source: self, Version: c.list.Version + 1, Now: c.now,
		})
	}
	if err != nil {
		return err
	}
	word := consent{granted, c.now, "confirmation-link", consentText(about)}
	if err := record(ctx, c.tx, c.list.ListNo, word, c.entry.Token); err != nil {
		return err
	}
	return c.move(ctx, subscribed)
}

func (c entryChange) refuse(text string) error {
	state := "GONE"
	if c.entry.State != 0 {
		state = localv1.Entry_State(c.entry.State).String()
	}
	return rpc.Precondition(errorv1.Reason_REASON_ENTRY_STATE, "the entry is %s: %s", state, text).With("state", state)
}

// onLink runs what a person does with a link, under the lock of the list. The entry's state is 0 where there is none.
func onLink(ctx context.Context, s *Service, name string, change func(entryChange, link) error) (*localv1.Subscription, error) {
	l, err := s.openLink(name)
	if err != nil {
		return nil, err
	}
	if err := l.refuseExpired(s.clock.Now()); err != nil {
		return nil, err
	}
	return inTx(ctx, s, func(tx pgx.Tx) (*localv1.Subscription, error) {
		q := db.New(tx)
		list, err := q.ListByNoForUpdate(ctx, l.listNo)
		if err != nil {
			return nil, orNoLink(err)
		}
		entry, err := q.Entry(ctx, db.EntryParams{ListNo: l.listNo, Token: l.token})
		if err := ignoreNoRows(err); err != nil {
			return nil, err
		}
		entry.Token = l.token
		if err := change(entryChange{tx: tx, list: list, entry: entry, now: s.clock.Now()}, l); err != nil {
			return nil, err
		}
		about, err := q.MailContext(ctx, db.MailContextParams{ListNo: l.listNo, Token: l.token})
		if err != nil {
			return nil, err
		}
		return viewSubscription(name, l, about), nil
	})
}

func viewSubscription(name string, l link, about db.MailContextRow) *localv1.Subscription {
	return &localv1.Subscription{
		Name:               name,
		Purpose:            l.purpose,
		ChapterDisplayName: about.ChapterName,
		ListDisplayName:    about.ListName,
		MaskedAddress:      masked(about.Address),
		State:              localv1.Entry_State(about.State),
		ConsentText:        consentText(about),
		ExpireTime:         timestampOf(l.expires()),
		CanReturn:          about.State > pending && about.Address != "" && !about.Deleted,
	}
}

// consentText is what a person who confirms agrees to.
func consentText(about db.MailContextRow) string {
	if about.ConsentText != "" {
		return about.ConsentText
	}
	return fmt.Sprintf("I would like to receive the mails of “%s” of %s. I can leave at any time, with the link in every mail.", about.ListName, about.ChapterName)
}

// masked leaves of an address what its owner recognises.
func masked(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at <= 0 {
		return ""
	}
	first := []rune(address[:at])[0]
	return string(first) + "…" + address[at:]
}

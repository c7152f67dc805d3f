package main

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

// charterVerb is what all verbs take.
type charterVerb struct {
	operator
	output

	Chapter string `arg:"" help:"The chapter's id."`
}

func (v *charterVerb) name() string { return "charters/" + chapterID(v.Chapter) }

// admin acts in the chapter's name.
func (v *charterVerb) admin() authz.Grant {
	return authz.Grant{Role: authz.ChapterAdmin, Scope: "chapters/" + chapterID(v.Chapter)}
}

// moment is a time on the command line: a date, which begins in UTC, or a time of RFC 3339; nil for none.
func moment(text string) (*timestamppb.Timestamp, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // see above
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return timestamppb.New(t), nil
		}
	}
	return nil, usage("%q is no date (2027-01-31) and no time (2027-01-31T12:00:00Z)", text)
}

// reasonCodes reads reasons as they are written in the API, in small letters, too.
func reasonCodes(names ...string) ([]internationalv1.Charter_Reason, error) {
	reasons := make([]internationalv1.Charter_Reason, 0, len(names))
	for _, name := range names {
		reason, known := internationalv1.Charter_Reason_value[strings.ToUpper(name)]
		if !known {
			return nil, usage("%q is no reason; docs/charters.md lists them", name)
		}
		reasons = append(reasons, internationalv1.Charter_Reason(reason))
	}
	return reasons, nil
}

type charterClaimCommand struct{ charterVerb }

// Run claims.
func (c *charterClaimCommand) Run(a *app) error {
	return c.call(a, c.output, staff, func(charters internationalv1.CharterServiceClient) (*internationalv1.Charter, error) {
		return charters.ClaimCharter(a.ctx, &internationalv1.ClaimCharterRequest{Name: c.name()})
	})
}

type charterReleaseCommand struct{ charterVerb }

// Run releases.
func (c *charterReleaseCommand) Run(a *app) error {
	return c.call(a, c.output, staff, func(charters internationalv1.CharterServiceClient) (*internationalv1.Charter, error) {
		return charters.ReleaseCharter(a.ctx, &internationalv1.ReleaseCharterRequest{Name: c.name()})
	})
}

type charterRequestChangesCommand struct {
	charterVerb

	Reason []string `required:"" placeholder:"REASON" help:"What is wrong: INFORMATION_MISSING, TOO_FEW_OFFICERS, ..."`
	Note   string   `required:"" help:"What to do; the chapter reads it."`
}

// Run asks for changes.
func (c *charterRequestChangesCommand) Run(a *app) error {
	reasons, err := reasonCodes(c.Reason...)
	if err != nil {
		return err
	}
	return c.call(a, c.output, staff, func(charters internationalv1.CharterServiceClient) (*internationalv1.Charter, error) {
		return charters.RequestCharterChanges(a.ctx, &internationalv1.RequestCharterChangesRequest{Name: c.name(), Reasons: reasons, Note: c.Note})
	})
}

type charterResubmitCommand struct {
	charterVerb

	Note string `help:"What was changed."`
}

// Run hands in again.
func (c *charterResubmitCommand) Run(a *app) error {
	return c.call(a, c.output, c.admin(), func(charters internationalv1.CharterServiceClient) (*internationalv1.Charter, error) {
		return charters.ResubmitCharter(a.ctx, &internationalv1.ResubmitCharterRequest{Name: c.name(), Note: c.Note})
	})
}

type charterApproveCommand struct {
	charterVerb

	StandingEtag   string `required:"" placeholder:"ETAG" help:"The etag of the standing you have read: chapterhouse standing get."`
	Note           string `help:"Why."`
	OverrideReason string `help:"Approves against the figures, for this reason."`
	OverrideUntil  string `placeholder:"DATE" help:"Until when it does not fall AT_RISK then."`
}

// Run approves on the figures of that standing and no others.
func (c *charterApproveCommand) Run(a *app) error {
	until, err := moment(c.OverrideUntil)
	if err != nil {
		return err
	}
	req := &internationalv1.ApproveCharterRequest{Name: c.name(), StandingEtag: c.StandingEtag, Note: c.Note}
	if c.OverrideReason != "" || until != nil {
		req.Override = &internationalv1.CharterOverride{Reason: c.OverrideReason, UntilTime: until}
	}
	return c.call(a, c.output, staff, func(charters internationalv1.CharterServiceClient) (*internationalv1.Charter, error) {
		return charters.ApproveCharter(a.ctx, req)
	})
}

type charterDeclineCommand struct {
	charterVerb

	Note    string `required:"" help:"Why; the chapter reads it."`
	Reason  string `default:"OTHER" placeholder:"REASON" help:"The same in a word: BELOW_THRESHOLD, TOO_FEW_PEOPLE, ..."`
	Reapply string `placeholder:"DATE" help:"When the chapter may apply again; otherwise after the policy's waiting time."`
}

// Run declines.
func (c *charterDeclineCommand) Run(a *app) error {
	reasons, err := reasonCodes(c.Reason)
	if err != nil {
		return err
	}
	again, err := moment(c.Reapply)
	if err != nil {
		return err
	}
	return c.call(a, c.output, staff, func(charters internationalv1.CharterServiceClient) (*internationalv1.Charter, error) {
		return charters.DeclineCharter(a.ctx, &internationalv1.DeclineCharterRequest{
			Name: c.name(), Note: c.Note, Reason: reasons[0], ReapplyTime: again,
		})
	})
}

type charterWithdrawCommand struct {
	charterVerb

	Note string `help:"Why."`
}

// Run withdraws.
func (c *charterWithdrawCommand) Run(a *app) error {
	return c.call(a, c.output, c.admin(), func(charters internationalv1.CharterServiceClient) (*internationalv1.Charter, error) {
		return charters.WithdrawCharter(a.ctx, &internationalv1.WithdrawCharterRequest{Name: c.name(), Note: c.Note})
	})
}

type charterSuspendCommand struct {
	charterVerb

	Note   string `required:"" help:"Why; the chapter reads it."`
	Reason string `required:"" placeholder:"REASON" help:"The same in a word: CONDUCT, NOT_ACTIVE, ..."`
}

// Run suspends.
func (c *charterSuspendCommand) Run(a *app) error {
	reasons, err := reasonCodes(c.Reason)
	if err != nil {
		return err
	}
	return c.call(a, c.output, staff, func(charters internationalv1.CharterServiceClient) (*internationalv1.Charter, error) {
		return charters.SuspendCharter(a.ctx, &internationalv1.SuspendCharterRequest{Name: c.name(), Note: c.Note, Reason: reasons[0]})
	})
}

type charterReinstateCommand struct {
	charterVerb

	Note string `help:"Why."`
}

// Run reinstates.
func (c *charterReinstateCommand) Run(a *app) error {
	return c.call(a, c.output, staff, func(charters internationalv1.CharterServiceClient) (*internationalv1.Charter, error) {
		return charters.ReinstateCharter(a.ctx, &internationalv1.ReinstateCharterRequest{Name: c.name(), Note: c.Note})
	})
}

type charterRevokeCommand struct {
	charterVerb

	Note    string `required:"" help:"Why; the chapter reads it."`
	Reason  string `required:"" placeholder:"REASON" help:"The same in a word: CONDUCT, NOT_ACTIVE, ..."`
	Reapply string `placeholder:"DATE" help:"When the chapter may apply again; otherwise after the policy's waiting time."`
}

// Run revokes.
func (c *charterRevokeCommand) Run(a *app) error {
	reasons, err := reasonCodes(c.Reason)
	if err != nil {
		return err
	}
	again, err := moment(c.Reapply)
	if err != nil {
		return err
	}
	return c.call(a, c.output, staff, func(charters internationalv1.CharterServiceClient) (*internationalv1.Charter, error) {
		return charters.RevokeCharter(a.ctx, &internationalv1.RevokeCharterRequest{
			Name: c.name(), Note: c.Note, Reason: reasons[0], ReapplyTime: again,
		})
	})
}

type charterSurrenderCommand struct {
	charterVerb

	Note string `help:"Why."`
}

// Run surrenders.
func (c *charterSurrenderCommand) Run(a *app) error {
	return c.call(a, c.output, c.admin(), func(charters internationalv1.CharterServiceClient) (*internationalv1.Charter, error) {
		return charters.SurrenderCharter(a.ctx, &internationalv1.SurrenderCharterRequest{Name: c.name(), Note: c.Note})
	})
}

type charterRenewCommand struct {
	charterVerb

	Request bool   `help:"Ask for it in the chapter's name."`
	Note    string `help:"What there is to say."`
}

// Run renews, or asks for it.
func (c *charterRenewCommand) Run(a *app) error {
	as := staff
	if c.Request {
		as = c.admin()
	}
	return c.call(a, c.output, as, func(charters internationalv1.CharterServiceClient) (*internationalv1.Charter, error) {
		return charters.RenewCharter(a.ctx, &internationalv1.RenewCharterRequest{Name: c.name(), Note: c.Note})
	})
}

type charterProtectCommand struct {
	charterVerb

	Until  string `required:"" placeholder:"DATE" help:"Until when no deadline runs."`
	Reason string `required:"" help:"Why: a war, a disaster."`
}

// Run protects.
func (c *charterProtectCommand) Run(a *app) error {
	until, err := moment(c.Until)
	if err != nil {
		return err
	}
	return c.call(a, c.output, staff, func(charters internationalv1.CharterServiceClient) (*internationalv1.Charter, error) {
		return charters.ProtectCharter(a.ctx, &internationalv1.ProtectCharterRequest{Name: c.name(), UntilTime: until, Reason: c.Reason})
	})
}

type charterUnprotectCommand struct {
	charterVerb

	Note string `help:"Why."`
}

// Run ends a protection.
func (c *charterUnprotectCommand) Run(a *app) error {
	return c.call(a, c.output, staff, func(charters internationalv1.CharterServiceClient) (*internationalv1.Charter, error) {
		return charters.UnprotectCharter(a.ctx, &internationalv1.UnprotectCharterRequest{Name: c.name(), Note: c.Note})
	})
}

package notice

import "text/template"

// text is a notice of one kind: an empty line ends a paragraph, and other line breaks are spaces.
type text struct{ subject, body *template.Template }

func words(subject, body string) text {
	return text{
		subject: template.Must(template.New("subject").Parse(subject)),
		body:    template.Must(template.New("body").Parse(body)),
	}
}

var unknown = words(`{{.Chapter}}: {{.Kind}}`, `There is a notice of kind {{.Kind}} about {{.Chapter}}. {{.Charter}} says more.`)

const (
	// belowTheLine says how things stand and what would lift them.
	belowTheLine = `Now {{.Figures}}; {{.ThresholdPercent}} % are needed.

To be eligible again: {{.Remedy}}.`
	// whatFollows is what happens after a deadline that is not met.
	whatFollows = `If nothing changes until then, the international body looks at the charter and may suspend it, or the policy
suspends it at once.`
)

// texts by kind. docs/notices.md shows them; a test keeps that current.
var texts = map[string]text{
	EligibilityGained: words(
		`{{.Chapter}} is eligible{{if eq .CharterState "CHARTERED"}} again{{end}}`,
		`{{.Chapter}} is on the line or over it: {{.Figures}}. {{.Margin}} of them could lapse before that is lost.

{{if eq .CharterState "CHARTERED"}}The charter is not at risk any more, and there is nothing to do.
{{else if eq .CharterState "SUSPENDED"}}The charter is suspended. The international body can reinstate it now.
{{else if eq .CharterState ""}}The chapter can apply for its charter: POST /v1/charters.
{{else}}The charter is {{.CharterState}}.{{end}}`),
	EligibilityLost: words(
		`{{.Chapter}} is no longer eligible{{with .Deadline}}: act by {{.}}{{end}}`,
		`{{.Chapter}} fell below the line. `+belowTheLine+`

{{with .Deadline}}Its charter is at risk. It has to be eligible again by {{.}}. `+whatFollows+`{{end}}`),
	AtRisk: words(
		`The charter of {{.Chapter}} is at risk{{with .Deadline}}: act by {{.}}{{end}}`,
		`The charter of {{.Chapter}} is at risk, because the chapter is below the line. `+belowTheLine+`

{{with .Deadline}}It has to be eligible again by {{.}}. `+whatFollows+`{{end}}`),
	CureBy: words(
		`{{.Chapter}} has {{.Left}} to become eligible again, until {{.Deadline}}`,
		`The charter of {{.Chapter}} is at risk, and has to be cured by {{.Deadline}}: that is {{.Left}} from now. `+belowTheLine+`

`+whatFollows),
	GraceEnded: words(
		`{{.Chapter}} did not become eligible in time`,
		`The time in which {{.Chapter}} could become eligible again is over{{with .Deadline}} since {{.}}{{end}}. `+belowTheLine+`

The international body looks at the charter now. Until it has decided, becoming eligible still ends the matter.`),

	Applied: words(
		`{{.Chapter}} has applied for a charter`,
		`{{.Chapter}} has applied for a charter.{{with .Deadline}} It is to be decided by {{.}}.{{end}}

{{if .Eligible}}It is eligible: {{.Figures}}.{{else}}It is not eligible yet: {{.Figures}}; {{.ThresholdPercent}} % are needed. It can be
approved once that has changed: {{.Remedy}}.{{end}}`),
	InReview: words(
		`The application of {{.Chapter}} is in review`,
		`A reviewer of the international body has taken up the application of {{.Chapter}}. There is nothing to do.`),
	ChangesRequested: words(
		`{{.Chapter}}: changes are requested{{with .Deadline}}, to be made by {{.}}{{end}}`,
		`Before the application of {{.Chapter}} can be decided, something has to change{{with .Reasons}}: {{.}}{{end}}.

When it has, submit the application again{{with .Deadline}}, by {{.}}{{end}}: POST /v1/{{.Charter}}:resubmit.`),
	Resubmitted: words(
		`{{.Chapter}} has submitted its application again`,
		`{{.Chapter}} has made the changes that were requested, and has submitted its application again.`),
	ReviewDue: words(
		`The application of {{.Chapter}} is to be decided by {{.Deadline}}`,
		`The international body is to decide on the application of {{.Chapter}} by {{.Deadline}}: that is {{.Left}} from now.

{{if .Eligible}}There is nothing to do.{{else}}It cannot be approved while the chapter is below the line. `+belowTheLine+`{{end}}`),
	ChangesDue: words(
		`{{.Chapter}} has {{.Left}} to make the requested changes, until {{.Deadline}}`,
		`The changes that were requested of {{.Chapter}} are due by {{.Deadline}}: that is {{.Left}} from now.

When they are made, submit the application again: POST /v1/{{.Charter}}:resubmit. Without it
the review goes on with what there is.`),
	ReviewOverdue: words(
		`The application of {{.Chapter}} was to be decided by {{.Deadline}}`,
		`The international body was to decide on the application of {{.Chapter}} by {{.Deadline}}, and has not. It is listed for it
as overdue. There is nothing to do.`),
	ChangesOverdue: words(
		`{{.Chapter}} has not made the requested changes in time`,
		`The time in which {{.Chapter}} could make the requested changes is over. The review goes on with what there
is{{with .Deadline}}, and is to be done by {{.}}{{end}}.`),
	Approved: words(
		`{{.Chapter}} is chartered`,
		`The international body has approved the charter of {{.Chapter}}: {{.Figures}}.{{with .Deadline}} It is to be renewed by {{.}}.{{end}}`),
	Declined: words(
		`The application of {{.Chapter}} was declined`,
		`The international body has declined the application of {{.Chapter}}{{with .Reasons}}: {{.}}{{end}}.

{{with .Reapply}}The chapter can apply again from {{.}}.{{end}}

{{if not .Eligible}}`+belowTheLine+`{{end}}`),
	Withdrawn: words(
		`The application of {{.Chapter}} was withdrawn`,
		`The application of {{.Chapter}} was withdrawn.{{with .Reapply}} The chapter can apply again from {{.}}.{{else}} The chapter
can apply again.{{end}}`),
	Suspended: words(
		`The charter of {{.Chapter}} is suspended`,
		`The charter of {{.Chapter}} is suspended{{with .Reasons}}: {{.}}{{end}}.

{{if .Eligible}}The international body can reinstate it.{{else}}`+belowTheLine+` Then the international body can reinstate it.{{end}}`),
	Reinstated: words(
		`The charter of {{.Chapter}} is reinstated`,
		`The charter of {{.Chapter}} is reinstated.{{with .Deadline}} It has to be eligible by {{.}}.{{end}}`),
	Revoked: words(
		`The charter of {{.Chapter}} is revoked`,
		`The international body has revoked the charter of {{.Chapter}}{{with .Reasons}}: {{.}}{{end}}.

{{with .Reapply}}The chapter can apply again from {{.}}.{{end}}`),
	Surrendered: words(
		`{{.Chapter}} has given up its charter`,
		`{{.Chapter}} has given up its charter.{{with .Reapply}} It can apply again from {{.}}.{{else}} It can apply again.{{end}}`),
	Renewed: words(
		`The charter of {{.Chapter}} is renewed`,
		`The charter of {{.Chapter}} is renewed{{with .Deadline}}, and good until {{.}}{{end}}.`),
	RenewalDue: words(
		`The charter of {{.Chapter}} is to be renewed by {{.Deadline}}`,
		`The charter of {{.Chapter}} is good until {{.Deadline}}: that is {{.Left}} from now. The chapter
asks for its renewal by POST /v1/{{.Charter}}:renew.

{{if not .Eligible}}`+belowTheLine+`{{end}}`),
	RenewalOverdue: words(
		`The charter of {{.Chapter}} was to be renewed by {{.Deadline}}`,
		`The charter of {{.Chapter}} was good until {{.Deadline}}, and has not been renewed. The international body looks at it now.
The chapter can still ask for it: POST /v1/{{.Charter}}:renew.

{{if not .Eligible}}`+belowTheLine+`{{end}}`),
	Protected: words(
		`{{.Chapter}} is protected{{with .Deadline}} until {{.}}{{end}}`,
		`The charter of {{.Chapter}} is protected{{with .Deadline}} until {{.}}{{end}}: no deadline runs meanwhile.`),
	Unprotected: words(
		`{{.Chapter}} is no longer protected`,
		`The protection of the charter of {{.Chapter}} is over, and deadlines run again.{{with .Deadline}} The chapter has to be
eligible by {{.}}.{{end}}

{{if not .Eligible}}`+belowTheLine+`{{end}}`),
	ProtectionEnd: words(
		`The protection of {{.Chapter}} ends on {{.Deadline}}`,
		`The charter of {{.Chapter}} is protected until {{.Deadline}}: that is {{.Left}} from now. After that deadlines run again.

{{if not .Eligible}}`+belowTheLine+`{{end}}`),
}

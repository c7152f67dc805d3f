package demo

// The chapters that have a part of their own.
const (
	// chartered stands exactly on the line and has its charter: one resignation puts it AT_RISK.
	chartered = "go-london-user-group"
	// applied waits for a decision, just under the line; a small file lifts it over.
	applied = "golang-paris"
	// empty has no entry on any list.
	empty = "golang-estonia"
)

// fixedSizes are the figures that tests, the documentation and the first-time visitor rely on. The line is 60 %.
var fixedSizes = map[string]sizes{
	chartered: {membership: Figures{150, 90}, mailing: Figures{120, 66}, steady: true},
	applied:   {membership: Figures{96, 55}, steady: true}, // 3 of its people would have to join, or 7 newcomers
	empty:     {},

	"munich-gophers":    {membership: Figures{100, 61}, steady: true},
	"golang-tokyo":      {membership: Figures{99, 59}, mailing: Figures{140, 70}, steady: true},
	"singapore-gophers": {membership: Figures{60, 36}, steady: true},
	"gdg-berlin-golang": {membership: Figures{90, 40}, mailing: Figures{125, 75}, steady: true}, // eligible by mailing alone
	"nairobi-gophers":   {membership: Figures{76, 46}, steady: true},
}

// Story is what a first-time visitor can do to see the platform at work.
type Story struct {
	// A list of Applied, and a CSV of a few members. Merged into the list it lifts the chapter over the line.
	List, CSV string
	// Resigns is the member of Chartered whose resignation puts its charter AT_RISK.
	Resigns string
}

// newcomers are how many Applied lacks: 62 of 103 are 60.2 %, 61 of 102 are not yet 60.
const newcomers = 7

// win makes up the newcomers, who are in the register and in no chapter yet, and the file that tells of them.
func win(p *people) string {
	var file []entry
	for range newcomers {
		one := p.international("FR", true)
		file = append(file, entry{one.addresses[0], one.displayName})
	}
	return fileOf(file)
}

// oneOf finds a member of the chapter who counts.
func oneOf(c chapter, members []member) string {
	counts := map[string]string{}
	for _, m := range members {
		if m.termDays > 0 && !m.resigned && m.addresses[0].verified {
			counts[m.addresses[0].address] = "members/" + m.id
		}
	}
	for _, e := range c.lists[0].entries {
		if name, found := counts[e.address]; found {
			return name
		}
	}
	return ""
}

package demo

// Summary says what the demo federation holds. Chapters and lists are given by name, as in the API.
type Summary struct {
	// New is false when the federation was there already and was left as it is.
	New bool

	Regions, Members, Chapters, Lists, Entries int

	// Chartered has its charter, Applied waits for a decision, Empty has no entries. No other chapter has applied.
	Chartered, Applied, Empty string
	// Just under, exactly at and just over 60 %, the better basis taken.
	Under, Exact, Over []string
	Story              Story
}

func (p plan) summary() Summary {
	s := Summary{
		Regions: len(p.regions), Members: len(p.members), Chapters: len(p.chapters),
		Chartered: chapterName(chartered), Applied: chapterName(applied), Empty: chapterName(empty),
		Under: chapterNames(applied, "golang-tokyo"),
		Exact: chapterNames(chartered, "singapore-gophers", "gdg-berlin-golang"),
		Over:  chapterNames("munich-gophers", "nairobi-gophers"),
		Story: p.story,
	}
	for _, c := range p.chapters {
		s.Lists += len(c.lists)
		for _, l := range c.lists {
			s.Entries += len(l.entries)
		}
	}
	return s
}

func chapterName(slug string) string { return "chapters/" + slug }

func listName(slug, list string) string { return chapterName(slug) + "/lists/" + list }

func chapterNames(slugs ...string) []string {
	names := make([]string, len(slugs))
	for i, slug := range slugs {
		names[i] = chapterName(slug)
	}
	return names
}

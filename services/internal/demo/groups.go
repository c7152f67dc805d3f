package demo

import (
	_ "embed" // for groups.csv
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"
)

//go:embed groups.csv
var groupsText string

// group is a user group as groups.csv has it.
type group struct {
	slug, name                    string
	city, countryCode             string
	country, continent, subregion string
	latitude, longitude           float64
	url                           string
}

// readGroups returns all groups, in the file's order.
func readGroups() ([]group, error) {
	reader := csv.NewReader(strings.NewReader(groupsText))
	reader.Comment = '#'
	rows, err := reader.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("groups.csv: %w", err)
	}
	groups := make([]group, 0, len(rows)-1)
	for _, row := range rows[1:] {
		g := group{
			slug: row[0], name: row[1], city: row[2], countryCode: row[3],
			country: row[4], continent: row[5], subregion: row[6], url: row[9],
		}
		if g.latitude, err = strconv.ParseFloat(row[7], 64); err != nil {
			return nil, fmt.Errorf("groups.csv: %s: %w", g.slug, err)
		}
		if g.longitude, err = strconv.ParseFloat(row[8], 64); err != nil {
			return nil, fmt.Errorf("groups.csv: %s: %w", g.slug, err)
		}
		groups = append(groups, g)
	}
	return groups, nil
}

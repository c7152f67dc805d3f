// Package demo loads a demo federation: real user groups as chapters in a tree of regions, with made-up members and
// lists. It goes through the services' own APIs, like anybody else, and makes the same federation each time; only the
// ends of terms depend on the day.
//
// The groups are in groups.csv, whose head says where they are from (coordinates: GeoNames, CC BY 4.0). All persons are
// made up from names.txt, with addresses at example.org, example.net and example.com.
package demo

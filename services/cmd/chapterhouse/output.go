package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// output is the flag of the commands that print data.
type output struct {
	Output string `short:"o" enum:"table,json,csv" default:"table" help:"Form of the data: ${enum}."`
}

// table is a list of things: as rows for people and spreadsheets, as messages for programs.
type table[M proto.Message] struct {
	head  []string
	row   func(M) []string
	items []M
}

// printTable writes a table, with the messages' JSON when that is asked for.
func printTable[M proto.Message](o output, w io.Writer, t table[M]) error {
	switch o.Output {
	case "json":
		return printJSON(w, t.items)
	case "csv":
		out := csv.NewWriter(w)
		_ = out.Write(t.head) // kept by the writer and returned by Error
		for _, item := range t.items {
			_ = out.Write(t.row(item))
		}
		out.Flush()
		return out.Error()
	}
	out := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(out, strings.ToUpper(strings.Join(t.head, "\t"))) // likewise, by Flush
	for _, item := range t.items {
		_, _ = fmt.Fprintln(out, strings.Join(t.row(item), "\t"))
	}
	return out.Flush()
}

// printJSON writes the messages as the REST interface does, as one array.
func printJSON[M proto.Message](w io.Writer, items []M) error {
	all := make([]json.RawMessage, 0, len(items))
	for _, item := range items {
		text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(item)
		if err != nil {
			return err
		}
		all = append(all, text)
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, string(text))
	return err
}

// date is a time as people and spreadsheets read it.
func date(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Format("2006-01-02 15:04:05Z")
}

package bus_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
)

func stringList(items []string) *structpb.ListValue {
	list := &structpb.ListValue{}
	for _, item := range items {
		list.Values = append(list.Values, structpb.NewStringValue(item))
	}
	return list
}

func texts(list *structpb.ListValue) []string {
	var found []string
	for _, value := range list.GetValues() {
		found = append(found, value.GetStringValue())
	}
	return found
}

func listData(added, removed []string) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{
		"added":   structpb.NewListValue(stringList(added)),
		"removed": structpb.NewListValue(stringList(removed)),
	}}
}

// applyList follows one version of a list.
func (w *world) applyList(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
	for i, e := range parts {
		if err := w.mayFail(e); err != nil {
			return err
		}
		if e.Part != i+1 || e.Parts != len(parts) {
			return fmt.Errorf("part %d of %d came as number %d of %d", e.Part, e.Parts, i+1, len(parts))
		}
		fields := e.Data.(*structpb.Struct).GetFields()
		if err := addItems(ctx, tx, e.Aggregate, texts(fields["added"].GetListValue())); err != nil {
			return err
		}
		if err := removeItems(ctx, tx, e.Aggregate, texts(fields["removed"].GetListValue())); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, "INSERT INTO history VALUES ($1, $2, $3)", parts[0].Aggregate, parts[0].Version.Epoch, parts[0].Version.Number)
	return err
}

func addItems(ctx context.Context, tx pgx.Tx, aggregate string, items []string) error {
	_, err := tx.Exec(ctx, "INSERT INTO items SELECT $1, unnest($2::text[])", aggregate, items)
	return err
}

func removeItems(ctx context.Context, tx pgx.Tx, aggregate string, items []string) error {
	tag, err := tx.Exec(ctx, "DELETE FROM items WHERE aggregate = $1 AND item = ANY($2)", aggregate, items)
	if err == nil && int(tag.RowsAffected()) != len(items) {
		err = fmt.Errorf("%s lacks some of %d items", aggregate, len(items))
	}
	return err
}

func replaceList(ctx context.Context, tx pgx.Tx, aggregate string, s *bus.Snapshot) error {
	if _, err := tx.Exec(ctx, "DELETE FROM items WHERE aggregate = $1", aggregate); err != nil {
		return err
	}
	for part, err := range s.Parts() {
		if err != nil {
			return err
		}
		if err := addItems(ctx, tx, aggregate, texts(part.(*structpb.ListValue))); err != nil {
			return err
		}
	}
	return nil
}

// applyNote follows one state of a note, or takes a notice.
func (w *world) applyNote(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
	e := parts[0]
	if err := w.mayFail(e); err != nil {
		return err
	}
	value := e.Data.(*wrapperspb.StringValue).GetValue()
	if e.Aggregate == "" {
		_, err := tx.Exec(ctx, "INSERT INTO notices VALUES ($1, $2)", e.ID, value)
		return err
	}
	return setNote(ctx, tx, e.Aggregate, value)
}

func setNote(ctx context.Context, tx pgx.Tx, aggregate, value string) error {
	_, err := tx.Exec(ctx, `INSERT INTO notes VALUES ($1, 0, 0, $2)
		ON CONFLICT (aggregate) DO UPDATE SET value = excluded.value`, aggregate, value)
	return err
}

func replaceNote(ctx context.Context, tx pgx.Tx, aggregate string, s *bus.Snapshot) error {
	if s.Gone {
		_, err := tx.Exec(ctx, "DELETE FROM notes WHERE aggregate = $1", aggregate)
		return err
	}
	for part, err := range s.Parts() {
		if err != nil {
			return err
		}
		return setNote(ctx, tx, aggregate, part.(*wrapperspb.StringValue).GetValue())
	}
	return nil
}

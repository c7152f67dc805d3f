-- +goose Up

ALTER TABLE relays
    ADD waiting_with  text[] NOT NULL DEFAULT '{}',
    ADD acting_region text   NOT NULL DEFAULT '',
    ADD waiting_since timestamptz;

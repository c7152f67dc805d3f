-- +goose Up

-- What was answered to calls that carried a request id, so that the same call is not carried out twice.
CREATE TABLE idempotency (
    principal    text        NOT NULL,
    method       text        NOT NULL,
    key          text        NOT NULL,
    request_hash bytea       NOT NULL,
    answer       bytea       NOT NULL,
    create_time  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (principal, method, key)
);
CREATE INDEX idempotency_create_time ON idempotency (create_time);

-- The key of the page tokens, shared by all replicas of the service. One row.
CREATE TABLE page_key (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    key    bytea   NOT NULL CHECK (octet_length(key) = 32)
);

-- +goose Down
DROP TABLE page_key;
DROP TABLE idempotency;

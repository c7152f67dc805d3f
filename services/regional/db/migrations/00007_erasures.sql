-- +goose Up

-- Erasures that were done here, so that the confirmation can be told again. A database that was restored from a backup has
-- forgotten some, hears of them again, and erases again.
CREATE TABLE erasures (
    -- Compared byte by byte: the owner of an aggregate lists its names in that order.
    id           text COLLATE "C" PRIMARY KEY,
    -- members/<id> of the register, of whom nothing but figures is left.
    member       text NOT NULL,
    -- How many records held the person.
    erased       integer NOT NULL,
    epoch        bigint NOT NULL,
    version      bigint NOT NULL,
    confirm_time timestamptz NOT NULL
);

"""The REST face (rest.md): the seed's contract to the letter, and what was added. No SQL and no decision is made here."""

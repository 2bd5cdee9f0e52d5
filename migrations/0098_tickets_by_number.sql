-- Tickets in the order of their numbers, also when these get longer: filled up with zeros, which stand before the letters of all locales.
create index tickets_by_number_idx on tickets (organization_id, kind, lpad(number, 20, '0'), id);

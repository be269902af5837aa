-- Nothing asks for it: what the topic has is told by the revision.
alter table orders drop column published_modified;

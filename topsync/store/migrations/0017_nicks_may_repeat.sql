-- Who a seller is says its id. Shops are renamed, and two may swap their nicks; we hear of it one shop after the
-- other, so the same nick is in two rows for a while.

alter table sellers drop constraint sellers_nick_key;
create index sellers_by_nick on sellers (nick);

-- Such a seller could be named by nothing typed, and the platform could not be told of it.
update sellers set nick = seller_id::text where btrim(nick) = '';

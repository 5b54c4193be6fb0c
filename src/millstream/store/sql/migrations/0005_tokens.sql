-- Tokens that are revoked before their end, and sign-in by e-mail: its codes, and the hidden key that its tokens
-- are made from.

alter table millstream.api_keys add column is_session boolean not null default false;
comment on column millstream.api_keys.is_session is
    'Made by a sign-in by e-mail: no secret fits it, lists and quotas leave it out, its tokens die with it.';
create unique index api_keys_session on millstream.api_keys (tenant_id) where is_session and is_active;
comment on index millstream.api_keys_session is 'open_session_key';

create index tenants_billing_email on millstream.tenants (lower(billing_email)) where billing_email is not null;
comment on index millstream.tenants_billing_email is 'find_tenants_by_email';

create table millstream.revoked_tokens (
    tenant_id int not null,
    jti uuid not null,
    expires_at timestamptz not null,
    primary key (tenant_id, jti)
);
create index revoked_tokens_ended on millstream.revoked_tokens (expires_at);
comment on index millstream.revoked_tokens_ended is 'prune_revoked_tokens';
select millstream.protect_table('millstream.revoked_tokens');

-- Whoever signs in has no tenant yet: an address may belong to several, or to none. A code that was right for an
-- address without a tenant is replaced by what completes its sign-up.
create table millstream.sign_in_codes (
    email text primary key,
    digest bytea not null,
    tries smallint not null default 0,
    is_sign_up boolean not null default false,
    expires_at timestamptz not null
);
create unique index sign_in_codes_sign_up on millstream.sign_in_codes (digest) where is_sign_up;
comment on index millstream.sign_in_codes_sign_up is 'take_sign_up';
create index sign_in_codes_ended on millstream.sign_in_codes (expires_at);
comment on index millstream.sign_in_codes_ended is 'prune_sign_in_codes';
grant select, insert, update, delete on millstream.sign_in_codes to millstream_engine;

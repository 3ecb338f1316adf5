"""A stand-in for PostgREST behind Supabase's gateway, for tests: `/rest/v1/rpc/<function>` over a real PostgreSQL.

It was written after the documentation, to be at least as strict as that. PostgREST's pages are those of its reference
(docs.postgrest.org/en/v16/references/…), Supabase's those of its guides (supabase.com/docs/guides/…).

===================================================================== ==========================================
rule                                                                  page
===================================================================== ==========================================
POST /rpc/<function>, a JSON object names the arguments, defaults     api/functions (Calling with POST, with GET)
GET takes them from the query, arrays as literals                     api/functions (array parameters)
a single unnamed json or jsonb parameter takes the whole body, and    api/functions (single unnamed parameter)
bytea, text, xml take raw bodies of their content types
variadic functions take an array, or a repeated GET parameter         api/functions (Variadic functions)
scalar: a bare value; set: an array; untyped records                  api/functions (Scalar, Table-valued, Untyped)
overloads by names; PGRST203 when several fit                         api/functions (Overloaded), errors
functions are those that the schema cache knows, else PGRST202;       schema_cache, listener
NOTIFY pgrst reloads it; PostgreSQL has the rest: types as JSON and   how-tos/working-with-postgresql-data-types
back by its own casts
limit, offset, Range on GET, Content-Range, count=exact, PGRST103     api/pagination_count
at most max_rows rows of a set, here 1,000                            configuration (db-max-rows), Supabase: "By
                                                                      default, … a maximum of 1,000 rows"
one object, or PGRST116; unknown media types are PGRST107             api/resource_representation
Prefer: handling, timezone, count, max-affected, and those that       api/preferences
concern no function and are passed over
Accept-Profile and Content-Profile, PGRST106, search_path             api/schemas, configuration (extra-search-path)
one transaction, read-only for GET and for stable functions; settings transactions
request.*, response.headers, response.status; a role's own settings;
statement_timeout and isolation of a function; the access mode is
always named (read write), whatever the default is
PGRST002 with Retry-After until the schema cache was read once;       errors, listener (automatic recovery)
PGRST000 and PGRST001 while the connection is tried again
HS256, exp, nbf, iat with 30 seconds' grace, aud; role, anonymous     auth, errors (group 3)
status by SQLSTATE, PTxyz, PGRST, {code, message, details, hint},     errors
Proxy-Status
apikey: 401 when it is missing or unknown; sb_publishable_… acts as   Supabase: api/api-keys; the bodies of the errors
anon, sb_secret_… as service_role and never for a browser; neither    as users report them (supabase-js, supadart)
is a bearer token
roles, what they may, and their timeouts                              Supabase: database/postgres/roles, …/timeouts
new tables are granted to nobody                                      Supabase: changelog 45329 (2026)
===================================================================== ==========================================

Where the documentation is silent, contradicts itself, or leaves a choice:

- `returns table (one column)` and a single OUT parameter: rows are objects. Only PostgREST's own tests say so.
- A body without a content type, one that names a key twice and one with NaN are refused with PGRST102; PostgREST takes
  JSON for granted. An empty body is PGRST102, as errors says, although PostgREST takes it for no arguments.
- An unknown media type is 406 (errors), not 415 (resource representation).
- Several functions that fit are PGRST203, also where one differs by a default only.
- Without Authorization a JWT as the API key does not choose the role: one is anonymous. Send both, as the examples do.
- The API key counts as a header only, although the gateway's error speaks of a parameter of the URL, too.
- An opaque key that is a bearer token as well is refused, as the guide says; a gateway of one's own lets it pass.
- A request does not wait while the schema cache is read anew: before version 16 it did.
- The SQLSTATEs 21000, 57P01 and 22023 for a role that is missing have the statuses of the table (400, 500, 400);
  PostgREST answers with 500, 503 and 401.
- Nothing is tried again: not after 40001, as PostgREST did before version 16, and not after a lost connection.
- A refusal after the call (PGRST116, PGRST124) rolls back. PostgREST's tests say so, its documentation does not.
- An offset behind the end is PGRST103 only when the total is known, that is with count=exact.
- The texts of messages and hints are PostgREST's where its documentation has them. Do not rely on them.

Not covered, and refused with PGRST127 where a request asks for it: tables and views, select, order, columns and
filters, embedding, text/csv and other media types, forms, nulls=stripped, plans, count=planned and count=estimated,
OpenAPI. Not there at all: CORS, asymmetric keys, a role elsewhere in a token than at its top, pre-request, tx=rollback,
the admin server, metrics, reloading the configuration, a trigger that notifies after every change of the schema, and
the gateway's own time limit (60 seconds, says Supabase's guide).
"""

from tests.postgrest.server import Config, StandIn, serving
from tests.postgrest.supabase import authenticator_url, prepare, token

__all__ = ["Config", "StandIn", "authenticator_url", "prepare", "serving", "token"]

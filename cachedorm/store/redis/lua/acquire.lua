-- ACQUIRE: the right to publish one entry, with the stamps it will carry.
--
-- KEYS   entry, its intents, then for each stamp: stamp, its intents
-- ARGV   token, lease_ms, prefix of a value the caller could serve, stamp_ttl_ms,
--        sha1 of a slot to replace though it looks valid ('' = none),
--        version of the registry that the caller's interests are in ('' = it has none), this
--        database, the registry's database, the registry, one new stamp per stamp key
-- Reply  {'granted', stamp...}   the lease is placed, now read the database
--        {'held', remaining_ms}  somebody else fills
--        {'refused'}             a writer is about to commit: publish nothing
--        {'valid', slot}         somebody published meanwhile
--        {'unregistered'}        the registry has another version, or is lost
local HEADER, STAMP, TOKEN = 36, 16, 16
local token, lease_ms, prefix, stamp_ttl_ms, replace =
  ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local registered, home, registry_db, registry = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local stamps = (#KEYS - 2) / 2
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Another type of value counts as nothing: nobody of ours put it there.
local function get(key)
  local held = redis.pcall('GET', key)
  return type(held) == 'string' and held or ''
end

-- Here and not beforehand: a Redis flushed in between would leave an entry that writers who have not
-- heard of it cannot follow. Flushed after this, it has lost the lease as well.
if registered ~= '' then
  redis.call('SELECT', registry_db)
  local version = redis.pcall('HGET', registry, '~version')
  redis.call('SELECT', home)
  if version ~= registered then return {'unregistered'} end
end

-- A fill that began now could read the database before that writer's COMMIT and be published
-- after its settle, so no fill begins while an intent lives on the entry or on any of its stamps.
for i = 2, #KEYS, 2 do
  local live = redis.pcall('ZCOUNT', KEYS[i], '(' .. now, '+inf')
  if type(live) == 'number' and live > 0 then return {'refused'} end
end

local slot = get(KEYS[1])
local letter = #slot == 1 + TOKEN and slot:sub(1, 1)
-- The counted intents may have been evicted; the one in the slot still says that a writer is there.
if letter == 'I' then return {'refused'} end

local found, whole, matching = {}, true, slot:byte(HEADER) == stamps
for i = 1, stamps do
  found[i] = get(KEYS[2 * i + 1])
  whole = whole and #found[i] == STAMP
  local from = HEADER + STAMP * (i - 1) + 1
  matching = matching and #found[i] == STAMP and slot:sub(from, from + STAMP - 1) == found[i]
end
-- Not my own lease: the reply to this very call may have been lost, and it is asked again.
-- Nor one whose stamp is gone since it was granted: what it publishes cannot be served any more.
if letter == 'L' and slot:sub(2) ~= token and whole then
  local left = redis.call('PTTL', KEYS[1])
  if left < 0 then
    redis.call('PEXPIRE', KEYS[1], lease_ms)
    left = tonumber(lease_ms)
  end
  return {'held', left}
end
-- A caller that holds a servable value but cannot use it (undecodable, too old for it) names it:
-- only if nothing else came since does the lease take its place.
if matching and slot:sub(1, #prefix) == prefix and redis.sha1hex(slot) ~= replace then
  return {'valid', slot}
end

-- Stamps are fixed here, before the database is read: whoever deletes one later makes
-- what is about to be published unservable.
for i = 1, stamps do
  local key = KEYS[2 * i + 1]
  if #found[i] ~= STAMP then
    found[i] = ARGV[9 + i]
    redis.call('SET', key, found[i], 'PX', stamp_ttl_ms)
  elseif redis.call('PTTL', key) < stamp_ttl_ms then
    -- Raise only: other entries live as long as this stamp.
    redis.call('PEXPIRE', key, stamp_ttl_ms)
  end
end
redis.call('SET', KEYS[1], 'L' .. token, 'PX', lease_ms)
return {'granted', unpack(found)}

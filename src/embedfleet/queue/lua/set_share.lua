-- Set a tenant's weight and cap in one stage, from now on.
--
-- KEYS[1] meta               HASH  counters, virtual times
-- KEYS[2] ready              ZSET  tasks in line, ordered by bytes
-- KEYS[3] in_flight          HASH  tenant -> leased tasks
-- KEYS[4] shares             HASH  tenant -> "stride cap"
-- KEYS[5] interactive        ZSET  eligible tenants by virtual start
-- KEYS[6] bulk               ZSET  the same for the bulk lane
-- KEYS[7] interactive_debts  ZSET  what absent tenants owe, by virtual start
-- KEYS[8] bulk_debts         ZSET  the same for the bulk lane
--
-- ARGV[1] tenant
-- ARGV[2] stride  price of a token in virtual time, a whole number; '' (with an empty cap) for the default
-- ARGV[3] cap     most tasks in flight; '' for none
--
-- Returns nothing.
-- Keeps: a tenant is eligible in a lane exactly while it has work there and is below its cap.
-- Uses: _fair_queue.lua

local tenant, stride, cap = ARGV[1], ARGV[2], ARGV[3]

if stride == '' then
  redis.call('HDEL', key.shares, tenant)
else
  redis.call('HSET', key.shares, tenant, stride .. ' ' .. cap)
end
share_changed(tenant)

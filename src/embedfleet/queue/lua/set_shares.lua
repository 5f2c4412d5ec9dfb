-- Set the weights of tenants in one stage, from now on.
--
-- KEYS[1] meta               HASH  counters, virtual times
-- KEYS[2] ready              ZSET  tasks in line, ordered by bytes
-- KEYS[3] ready_costs        HASH  tenant -> tokens ready
-- KEYS[4] shares             HASH  tenant -> stride
-- KEYS[5] interactive        ZSET  eligible tenants by virtual start
-- KEYS[6] bulk               ZSET  the same for the bulk lane
-- KEYS[7] interactive_debts  ZSET  what absent tenants owe, by virtual start
-- KEYS[8] bulk_debts         ZSET  the same for the bulk lane
--
-- ARGV[1..] shares  of each tenant: its id, its stride (price of a token in virtual time, a whole number; ''
--                   for the default); at most 1,000
--
-- Returns nothing.
-- Keeps: a tenant is eligible in a lane exactly while it has work there; `ready_weight` is the sum of the
-- weights of the tenants in `ready_costs`.
-- Uses: _fair_queue.lua

for i = 1, #ARGV, 2 do
  local tenant, stride = ARGV[i], ARGV[i + 1]
  local weight_before = weight_of(tenant)
  if stride == '' then
    redis.call('HDEL', key.shares, tenant)
  else
    redis.call('HSET', key.shares, tenant, stride)
  end
  if redis.call('HEXISTS', key.ready_costs, tenant) == 1 then
    redis.call('HINCRBY', key.meta, 'ready_weight', weight_of(tenant) - weight_before)
  end
  -- An older release took a tenant out of its lanes while it was at its cap. If the tenant has work, it comes
  -- back here: the leader sets all shares after its start. Without an upgrade this changes nothing.
  for _, lane in ipairs({INTERACTIVE, BULK}) do
    if has_work(lane, tenant) then
      enter(lane, tenant)
      count_ready_cost(tenant, 0)
    end
  end
end

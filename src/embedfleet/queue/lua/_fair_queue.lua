-- Fragment: decides which tenant is served next, and charges it. The rules and their reasons are in
-- fair_queue.py and ready_tasks.py. This is a translation of them and gives the same order, equal starts
-- included: every number is an integer below 2^53, which doubles hold exactly.
--
-- A tenant is eligible in a lane exactly while it has ready tasks there. Eligible tenants are in the lane's
-- ZSET by virtual start (equal starts: by bytes of UTF-8, which is code point order). The start of a tenant
-- that is not eligible, if it is above virtual time, is kept in the lane's debts. A lane without eligible
-- tenants has no debts and virtual time 0.
--
-- `ready_costs` has a field for each tenant with ready tasks, both lanes together, and the counter
-- `ready_weight` is the sum of the weights of exactly these tenants.

local REBASE_AT = 2 ^ 52
local STRIDE_OF_WEIGHT_ONE = 25200
-- No UTF-8 text has this byte, so no text can contain a separator.
local SEPARATOR = '\255'
local PLACE_LENGTH = 17 -- of priority and sequence in a member of ready

local INTERACTIVE = {code = 'i', tenants = key.interactive, debts = key.interactive_debts, time = 'interactive_time'}
local BULK = {code = 'b', tenants = key.bulk, debts = key.bulk_debts, time = 'bulk_time'}
local LANES = {interactive = INTERACTIVE, bulk = BULK}

local function counter(name)
  return tonumber(redis.call('HGET', key.meta, name) or 0)
end

-- The price of one token for the tenant, in virtual time. An older release wrote "stride cap": what follows
-- the stride has no meaning any more.
local function stride_of(tenant)
  local share = redis.call('HGET', key.shares, tenant)
  return share and tonumber(string.match(share, '^%d+')) or STRIDE_OF_WEIGHT_ONE
end

-- The tenant's weight in millionths, from its price. The quotient is exact enough in doubles: its parts
-- before and after the point have at most 27 and 22 bits.
local function weight_of(tenant)
  return math.floor(1e6 * STRIDE_OF_WEIGHT_ONE / stride_of(tenant))
end

-- The prefix of the tenant's tasks of this lane in `ready`.
local function line_of(lane, tenant)
  return tenant .. SEPARATOR .. lane.code
end

-- The task's member of `ready`. In its line, higher priority comes first, then first in, first out.
local function member_of(task)
  local line = line_of(LANES[task.lane], task.tenant)
  return line .. string.format('%03d%014x', 100 - task.priority, task.sequence) .. task.id
end

local function first_in_line(lane, tenant, limit)
  local line = line_of(lane, tenant)
  return redis.call('ZRANGEBYLEX', key.ready, '[' .. line, '(' .. line .. SEPARATOR, 'LIMIT', 0, limit)
end

local function has_work(lane, tenant)
  return #first_in_line(lane, tenant, 1) > 0
end

-- Notifies the waiting brokers when a lane that had no ready task has one. The channel has the name of the
-- key `meta` of the stage's first shard: one channel is enough for all shards.
local function ring_if_first(lane)
  if redis.call('ZCARD', lane.tenants) == 1 then
    local channel = string.gsub(key.meta, ':%d+}', '}')
    redis.call('PUBLISH', channel, '')
  end
end

local function is_eligible(lane, tenant)
  return redis.call('ZSCORE', lane.tenants, tenant) and true or false
end

local function enter(lane, tenant)
  if is_eligible(lane, tenant) then
    return
  end
  local start = counter(lane.time)
  local debt = redis.call('ZSCORE', lane.debts, tenant)
  if debt then
    start = math.max(start, tonumber(debt))
    redis.call('ZREM', lane.debts, tenant)
  end
  redis.call('ZADD', lane.tenants, start, tenant)
  ring_if_first(lane)
end

local function end_busy_period(lane)
  redis.call('HDEL', key.meta, lane.time)
  redis.call('UNLINK', lane.debts)
end

-- Keeps the start of a tenant that leaves. A debt that virtual time has passed has no effect. Up to two of
-- these are dropped for each debt that is added, so that tenants that never come back are forgotten.
local function keep_debt(lane, tenant, start)
  local time = counter(lane.time)
  if start > time then
    redis.call('ZADD', lane.debts, start, tenant)
  end
  local passed = redis.call('ZRANGEBYSCORE', lane.debts, '-inf', time, 'LIMIT', 0, 2)
  for _, other in ipairs(passed) do
    redis.call('ZREM', lane.debts, other)
  end
end

local function leave(lane, tenant)
  local start = redis.call('ZSCORE', lane.tenants, tenant)
  if not start then
    return
  end
  redis.call('ZREM', lane.tenants, tenant)
  if redis.call('EXISTS', lane.tenants) == 0 then
    end_busy_period(lane)
  else
    keep_debt(lane, tenant, tonumber(start))
  end
end

-- Counts tokens of the tenant that became ready, or are not ready any more (below 0).
local function count_ready_cost(tenant, change)
  if redis.call('HSETNX', key.ready_costs, tenant, 0) == 1 then
    redis.call('HINCRBY', key.meta, 'ready_weight', weight_of(tenant))
  end
  redis.call('HINCRBY', key.ready_costs, tenant, change)
end

-- Forgets a tenant whose last ready task is gone. The number of its tokens is dropped, whatever it is: after
-- an upgrade it is too low, because the older release did not count the tasks that it queued.
local function forget_ready_cost(tenant)
  if redis.call('HDEL', key.ready_costs, tenant) == 0 then
    return
  elseif redis.call('EXISTS', key.ready_costs) == 0 then
    redis.call('HDEL', key.meta, 'ready_weight')
  else
    redis.call('HINCRBY', key.meta, 'ready_weight', -weight_of(tenant))
  end
end

-- To be called after a task was added to its line.
local function joined_line(task)
  enter(LANES[task.lane], task.tenant)
  count_ready_cost(task.tenant, task.cost)
end

-- To be called after a task was removed from its line. `was_last`: it was the last of its line.
local function left_line(task, was_last)
  local lane, tenant = LANES[task.lane], task.tenant
  if was_last then
    leave(lane, tenant)
  end
  local other = lane == BULK and INTERACTIVE or BULK
  if was_last and not is_eligible(other, tenant) then
    forget_ready_cost(tenant)
  else
    count_ready_cost(tenant, -task.cost)
  end
end

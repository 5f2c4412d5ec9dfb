-- Lease ready tasks in order of service.
--
-- KEYS[1]  meta               HASH  counters, virtual times
-- KEYS[2]  ready              ZSET  tasks in line, ordered by bytes
-- KEYS[3]  ready_costs        HASH  tenant -> tokens ready
-- KEYS[4]  shares             HASH  tenant -> stride
-- KEYS[5]  interactive        ZSET  eligible tenants by virtual start
-- KEYS[6]  bulk               ZSET  the same for the bulk lane
-- KEYS[7]  interactive_debts  ZSET  what absent tenants owe, by virtual start
-- KEYS[8]  bulk_debts         ZSET  the same for the bulk lane
-- KEYS[9]  tasks              HASH  id -> record
-- KEYS[10] payloads           HASH  id -> payload
-- KEYS[11] jobs               ZSET  job / id of what may be cancelled, ordered by bytes
-- KEYS[12] leases             ZSET  id by expiry
--
-- ARGV[1] now                seconds; '' for the server's clock
-- ARGV[2] interactive_burst  interactive tasks in a row while bulk work waits
-- ARGV[3] worker             who will hold the leases
-- ARGV[4] max_tasks          1 to 1,000
-- ARGV[5] max_cost           tokens, for all but the first task of the claim
-- ARGV[6] lease_seconds
-- ARGV[7] lane               the only lane to serve; '' for both
-- ARGV[8] held               tasks that the same claim has of other shards
-- ARGV[9..] passing_over     tenants that this claim does not serve, each once
--
-- Returns when the leases expire (seconds), 1 if the claim must end with this shard (the next task does not fit
-- or must be alone) or 0, then of each task: id, record, payload.
-- Keeps: fences only grow, even across a loss of all keys, because they follow the server's clock. The
-- attempt is counted before a worker sees the task. A task with a counted delivery, or one that asks for it,
-- is claimed alone. A tenant that is passed over stays eligible, owes what it owed, and has no start below
-- virtual time afterwards. It rings no bell, because no tenant enters here.
-- Uses: _time.lua, _fair_queue.lua, _layout.lua, _tasks.lua

local burst, worker, max_tasks = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local cost_left, only = tonumber(ARGV[5]), LANES[ARGV[7]]
local expires_at = exactly(seconds_now(ARGV[1]) + tonumber(ARGV[6]))
local answer = {expires_at, 0}
local held = tonumber(ARGV[8])

local passed_over = {}
for i = 9, #ARGV do
  passed_over[ARGV[i]] = true
end

-- The first tenant that is not passed over, and its start. The first `skipped` members of a lane are known to be
-- passed over. They stay where they are until the end of the claim: tenants that are served move back, from behind
-- them. So a claim reads past each of them once, and not once for each task. Among the members behind them are at
-- most as many that are passed over as there are names.
local MOST_AT_ONCE = 64

local function first_tenant(lane)
  lane.skipped = lane.skipped or 0
  local page = math.min(#ARGV - 7, MOST_AT_ONCE)
  while true do
    local first = redis.call('ZRANGE', lane.tenants, lane.skipped, lane.skipped + page - 1, 'WITHSCORES')
    for i = 1, #first, 2 do
      if not passed_over[first[i]] then
        return first[i], tonumber(first[i + 1])
      end
      lane.skipped = lane.skipped + 1
    end
    if #first < 2 * page then
      return nil
    end
  end
end

-- The lane whose turn it is, its first tenant and that tenant's start, and whether bulk work waits.
local function next_turn(in_a_row)
  if only then
    local tenant, start = first_tenant(only)
    return only, tenant, start, false
  end
  local asking, asking_start = first_tenant(INTERACTIVE)
  local waiting, waiting_start = first_tenant(BULK)
  if asking and not (waiting and in_a_row >= burst) then
    return INTERACTIVE, asking, asking_start, waiting ~= nil
  end
  return BULK, waiting, waiting_start, waiting ~= nil
end

-- Moves all starts down so that virtual time is 0; their order stays, as only differences count. This is the
-- only loop that is bounded by the number of tenants and not by a limit. It runs about once in 10^11 tokens.
local function rebase(lane, passed)
  for _, set in ipairs({lane.tenants, lane.debts}) do
    local starts = redis.call('ZRANGE', set, 0, -1, 'WITHSCORES')
    for i = 1, #starts, 2 do
      redis.call('ZADD', set, math.max(0, tonumber(starts[i + 1]) - passed), starts[i])
    end
  end
end

local function charge(lane, tenant, start, cost)
  if start >= REBASE_AT then
    rebase(lane, start)
    start = 0
    lane.skipped = 0 -- starts that were different may be equal now, and equal ones are in the order of names
  end
  redis.call('HSET', key.meta, lane.time, start)
  redis.call('ZADD', lane.tenants, start + cost * stride_of(tenant), tenant)
end

-- Lets the tenants that were passed over go on as if they had just come. Otherwise they would be owed the
-- service that they were not given.
local function raise_passed_over(lane)
  local time = counter(lane.time)
  for tenant in pairs(passed_over) do
    local start = redis.call('ZSCORE', lane.tenants, tenant)
    if start and tonumber(start) < time then
      redis.call('ZADD', lane.tenants, time, tenant)
    end
  end
end

local function lease(task, fence)
  task.state, task.fence, task.worker, task.attempt = 'leased', fence, worker, task.attempt + 1
  save(task)
  redis.call('ZADD', key.leases, expires_at, task.id)
  add_cost('ready', -task.cost)
  add_cost('leased', task.cost)
end

local clock = redis.call('TIME')
local fence = math.max(counter('fence'), tonumber(clock[1]) * 1e6 + tonumber(clock[2]) - 1)
local in_a_row = counter('interactive_in_a_row')

begin_even_if_memory_is_full()
for served = 0, max_tasks - 1 do
  local lane, tenant, start, bulk_waits = next_turn(in_a_row)
  if not tenant then
    break
  end
  local members = first_in_line(lane, tenant, 2)
  local task = load(string.sub(members[1], #line_of(lane, tenant) + PLACE_LENGTH + 1))
  local alone = task.alone == 1 or task.attempt > 0
  if held + served > 0 and (alone or task.cost > cost_left) then
    answer[2] = 1
    break
  end
  cost_left = cost_left - task.cost
  if not only then  -- a claim of one lane has no part in the order of both
    in_a_row = (lane == INTERACTIVE and bulk_waits) and in_a_row + 1 or 0
  end

  redis.call('ZREM', key.ready, members[1])
  charge(lane, tenant, start, task.cost)
  left_line(task, #members == 1)
  fence = fence + 1
  lease(task, fence)

  answer[#answer + 1] = task.id
  answer[#answer + 1] = redis.call('HGET', key.tasks, task.id)
  answer[#answer + 1] = redis.call('HGET', key.payloads, task.id)
  if alone then
    answer[2] = 1
    break
  end
end

if #answer > 2 then
  raise_passed_over(INTERACTIVE)
  raise_passed_over(BULK)
  redis.call('HSET', key.meta, 'fence', fence, 'interactive_in_a_row', in_a_row)
end
return answer

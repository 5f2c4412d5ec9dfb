-- Say which jobs have a task that is ready, leased or delayed.
--
-- KEYS[1] jobs  ZSET  job / id of what may be cancelled, ordered by bytes
--
-- ARGV[1..] jobs  at most 1,000
--
-- Returns 1 or 0 for each job.
-- Keeps: nothing is changed.

local answer = {}
for number, job in ipairs(ARGV) do
  local line = job .. '\255'
  local found = redis.call('ZRANGEBYLEX', key.jobs, '[' .. line, '(' .. line .. '\255', 'LIMIT', 0, 1)
  answer[number] = #found
end
return answer

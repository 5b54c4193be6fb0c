-- Takes ARGV[1] tokens out of every bucket of KEYS, or out of none of them. A negative number puts tokens back.
-- ARGV[2 * i] and ARGV[2 * i + 1] are the size of bucket i and the tokens it gains a second.
-- Returns 1 when they were taken, else 0, and what each bucket then holds.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local cost = tonumber(ARGV[1])
local admitted = 1
local levels = {}

for i, key in ipairs(KEYS) do
    local burst = tonumber(ARGV[2 * i])
    local per_second = tonumber(ARGV[2 * i + 1])
    local kept = redis.call('HMGET', key, 'tokens', 'at')
    levels[i] = burst
    if kept[1] and kept[2] then
        -- The clock of a replica that was promoted may be behind.
        local passed = math.max(0, now - tonumber(kept[2]))
        levels[i] = math.min(burst, tonumber(kept[1]) + passed * per_second)
    end
    if levels[i] < cost then
        admitted = 0
    end
end

local answer = { admitted }
for i, key in ipairs(KEYS) do
    if admitted == 1 and cost ~= 0 then
        local burst = tonumber(ARGV[2 * i])
        local per_second = tonumber(ARGV[2 * i + 1])
        levels[i] = math.min(burst, levels[i] - cost)
        redis.call('HSET', key, 'tokens', string.format('%.6f', levels[i]), 'at', string.format('%.6f', now))
        -- A bucket that has filled up is like one that never was.
        local seconds = 3600
        if per_second > 0 then
            seconds = math.min(seconds, (burst - levels[i]) / per_second)
        end
        redis.call('PEXPIRE', key, math.ceil(seconds * 1000) + 1000)
    end
    answer[i + 1] = string.format('%.6f', levels[i])
end
return answer
